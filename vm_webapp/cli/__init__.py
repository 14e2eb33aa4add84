"""The command line. Each command imports what it needs only when it runs, so that ``--help`` is quick.

Exit codes: 0 success; 1 the command failed; 2 wrong usage or configuration.
"""

from __future__ import annotations

import argparse
import logging
import os
import signal
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import NoReturn

from vm_webapp import __version__
from vm_webapp.cli.arguments import base_url, filled, money, run_id, threads, tokens, whole_number, words
from vm_webapp.cli.collector import pause_collector, resume_collector
from vm_webapp.cli.environment import read_environment
from vm_webapp.cli.operations import add_operations
from vm_webapp.cli.output import as_called, ending_quietly, prepare_streams
from vm_webapp.errors import ConfigurationError, InvalidInput, VMError
from vm_webapp.ops.worker_start import noting_start
from vm_webapp.parents import Parents, record_parents
from vm_webapp.text import escaped, first_line

USUAL_WORKFLOW = "plan_90d"


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code; print an error as one line on stderr."""
    prepare_streams()
    with ending_quietly():
        return _run_command(_parser().parse_args(argv))


def _run_command(arguments: argparse.Namespace) -> int:
    if signal.getsignal(signal.SIGINT) is signal.SIG_DFL:  # see __main__.py
        signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with ending_quietly():
            code: int = arguments.command(arguments)
    except (ConfigurationError, InvalidInput) as error:
        return _report(str(error), 2)
    except VMError as error:
        return _report(str(error), 1)
    except KeyboardInterrupt:
        return 130  # what shells report for a command that SIGINT ended
    except Exception as error:
        if arguments.command in (_serve, _worker):
            raise  # the log of a service should hold the traceback
        logging.getLogger(__name__).debug("command.crashed", exc_info=True)
        message = f"{type(error).__name__}: {first_line(error)}"
        return _report(f"this is a defect: {message} (LOG_LEVEL=DEBUG shows where)", 1)
    return code


def _report(error: str, code: int) -> int:
    print(as_called(f"vm_webapp: {escaped(error)}"), file=sys.stderr)
    return code


class _OneLineParser(argparse.ArgumentParser):
    """Reports wrong usage in one line, without argparse's usage text."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"vm_webapp: {escaped(message)} ({self.prog} --help tells more)\n")


def _parser() -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = _OneLineParser(
        prog="python -m vm_webapp", description="Runs marketing workflows."
    )
    parser.add_argument("--version", action="version", version=f"vm-webapp {__version__}")
    commands = parser.add_subparsers(metavar="command", required=True)

    serve = commands.add_parser("serve", help="run the API; outside managed mode with everything that it needs")
    serve.add_argument("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    serve.add_argument("--port", type=_port, help="port to listen on (default: PORT, else 8766)")
    serve.add_argument("--no-worker", action="store_true", help="keep no worker as a child process")
    serve.add_argument("--on-descriptors", type=_descriptors, default=(), help=argparse.SUPPRESS)
    serve.set_defaults(command=_serve)

    worker = commands.add_parser("worker", help="run a worker, which executes the stages of runs")
    worker.add_argument(
        "--poll-interval-ms",
        type=_positive,
        default=500,
        help="how often an idle worker polls PostgreSQL for work (default: %(default)s)",
    )
    worker.add_argument("--threads", type=threads, help="stages at a time (default: VM_WORKER_THREADS, else 32)")
    worker.add_argument("--until-stdin-closes", action="store_true", help=argparse.SUPPRESS)
    worker.add_argument("--start-error-to", type=Path, help=argparse.SUPPRESS)
    worker.set_defaults(command=_worker)

    _add_run(commands.add_parser("run", help="create a run, show its progress, write its artifacts to a folder"))
    _add_migrate(commands.add_parser("migrate", help="show, apply or roll back migrations"))
    add_operations(commands)
    return parser


def _add_run(run: argparse.ArgumentParser) -> None:
    what = run.add_mutually_exclusive_group(required=True)
    what.add_argument("request", type=filled, nargs="?", help="what is wanted, in a sentence or more")
    what.add_argument(
        "--resume", type=run_id, metavar="RUN_ID", help="come back to a run, such as one that waits for a review"
    )
    what.add_argument("--retry", type=run_id, metavar="RUN_ID", help="put a failed run back to work, and follow it")
    run.add_argument(
        "--from-stage", type=filled, metavar="KEY", help="with --retry: the stage to begin with (default: the failed)"
    )
    run.add_argument("--workflow", type=filled, help=f"which workflow (default: {USUAL_WORKFLOW})")
    run.add_argument("--brand", type=words, metavar="ID|NAME", help="the brand to write for (default: the project's)")
    run.add_argument("--project", type=words, metavar="ID|NAME", help="the project that the run belongs to")
    run.add_argument("--budget-tokens", type=tokens, metavar="N", help="tokens that its calls may use, in all")
    run.add_argument("--budget-money", type=money, metavar="M", help="money that they may cost (VM_MODEL_PRICES)")
    run.add_argument("--yes", action="store_true", help="pass reviews without asking; needed without a terminal")
    run.add_argument(
        "--base-url",
        type=base_url,
        help="a running API; without it everything is started here (VM_API_TOKEN is sent)",
    )
    run.add_argument("--output", help="folder for the artifacts (default: ./<workflow>-<run id>)")
    run.set_defaults(command=_run, refuse=run.error)


def _refuse_unused_run_options(arguments: argparse.Namespace) -> None:
    """Exit with code 2 where an option has no effect on what is asked for."""
    if arguments.from_stage is not None and arguments.retry is None:
        arguments.refuse("argument --from-stage: only allowed with argument --retry")
    if arguments.resume is not None and (arguments.budget_tokens or arguments.budget_money):
        arguments.refuse("argument --budget-tokens, --budget-money: not allowed with argument --resume: use --retry")
    if arguments.request is None:
        for option in ("workflow", "brand", "project"):
            if getattr(arguments, option) is not None:
                other = "--retry" if arguments.retry is not None else "--resume"
                arguments.refuse(f"argument --{option}: not allowed with argument {other}: the run has its own")


def _add_migrate(migrate: argparse.ArgumentParser) -> None:
    migrate.set_defaults(command=_migrate, action="up")
    actions = migrate.add_subparsers(metavar="action", dest="action", help="(default: up)")
    dry_run = argparse.ArgumentParser(add_help=False)
    dry_run.add_argument("--dry-run", action="store_true", help="print the SQL and change nothing")
    up = actions.add_parser("up", parents=[dry_run], help="apply what is missing")
    up.add_argument("--force", action="store_true", help="even if live workers cannot work with the new schema")
    actions.add_parser("status", help="compare the database with this build")
    down = actions.add_parser("down", parents=[dry_run], help="roll back, whichever build applied it")
    how_far = down.add_mutually_exclusive_group(required=True)
    how_far.add_argument("--to", type=filled, metavar="ID", help="the newest migration that stays")
    how_far.add_argument("--steps", type=_positive, metavar="N", help="how many to roll back")
    down.add_argument("--yes", action="store_true", help="do not ask")
    down.add_argument("--force", action="store_true", help="even if live workers need what is removed")
    export = actions.add_parser("export", help="write the applied migrations to a folder, for plain yoyo")
    export.add_argument("folder", metavar="DIR", help="a folder that is new or empty")
    actions.add_parser("unlock", help="remove the lock that a killed yoyo left")


def _end_at_once_when_asked() -> None:
    """Exit at once on a signal, until the command installs its own handlers."""
    # Nothing has to be stopped yet, and a KeyboardInterrupt that is raised during an import can get lost.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda number, frame: os._exit(128 + number))


def _serve(arguments: argparse.Namespace) -> int:
    parents = record_parents()  # first of all: one that ends earlier cannot be known
    pause_collector()
    settings = read_environment()
    parents = parents if settings.managed else Parents()
    _end_at_once_when_asked()
    port = settings.port if arguments.port is None else arguments.port
    with_worker = not arguments.no_worker
    if settings.web_concurrency > 1 and not arguments.on_descriptors:
        from vm_webapp.cli.processes import keep_serving

        resume_collector()  # this parent only starts others
        return keep_serving(settings, host=arguments.host, port=port, with_worker=with_worker, parents=parents)
    from vm_webapp.cli.serve import serve_for_parent, serve_until_stopped

    if arguments.on_descriptors:
        sockets = arguments.on_descriptors
        return serve_for_parent(settings, host=arguments.host, port=port, with_worker=with_worker, descriptors=sockets)
    return serve_until_stopped(settings, host=arguments.host, port=port, with_worker=with_worker, parents=parents)


def _worker(arguments: argparse.Namespace) -> int:
    parents = record_parents()
    pause_collector()
    with noting_start(arguments.start_error_to) as note_started:
        settings = read_environment()
        _end_at_once_when_asked()
        from actors.worker import run_worker

        def on_started() -> None:
            resume_collector()
            note_started()

        if arguments.threads:
            settings = replace(settings, worker_threads=arguments.threads)
        return run_worker(
            settings,
            poll_seconds=arguments.poll_interval_ms / 1000,
            until_stdin_closes=arguments.until_stdin_closes,
            parents=parents if settings.managed else Parents(),
            on_started=on_started,
        )


def _run(arguments: argparse.Namespace) -> int:
    _refuse_unused_run_options(arguments)
    settings = read_environment(quiet=True)
    from vm_webapp.cli.run import RunOptions, run_in_terminal

    options = RunOptions(
        request=arguments.request,
        resume=arguments.resume,
        retry=arguments.retry,
        from_stage=arguments.from_stage,
        workflow=arguments.workflow or USUAL_WORKFLOW,
        brand=arguments.brand,
        project=arguments.project,
        budget_tokens=arguments.budget_tokens,
        budget_money=arguments.budget_money,
        auto_approve=arguments.yes,
        base_url=arguments.base_url,
        output=arguments.output,
    )
    return run_in_terminal(settings, options)


def _migrate(arguments: argparse.Namespace) -> int:
    settings = read_environment()
    from vm_webapp.cli.migrate import MigrateOptions, run_migrate

    asked = {name: value for name, value in vars(arguments).items() if name != "command"}
    return run_migrate(settings, MigrateOptions(**asked | {"action": arguments.action or "up"}))


def _port(text: str) -> int:
    return whole_number(text, 0, 65_535)


def _descriptors(text: str) -> tuple[int, ...]:
    return tuple(whole_number(each, 0, 1_000_000) for each in text.split(","))


def _positive(text: str) -> int:
    return whole_number(text, 1, 1_000_000)
