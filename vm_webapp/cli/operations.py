"""The commands for operators: their arguments, and the function that each one calls."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from vm_webapp.access.roles import ROLES
from vm_webapp.cli.arguments import (
    base_url,
    duration,
    fewest_workers,
    filled,
    moment,
    most_workers,
    place,
    position,
    service_id,
    target_seconds,
    wait_seconds,
    words,
)
from vm_webapp.cli.environment import read_environment
from vm_webapp.errors import ConfigurationError
from vm_webapp.parents import Parents, record_parents

if TYPE_CHECKING:
    Commands = argparse._SubParsersAction[argparse.ArgumentParser]

STATUSES = ("queued", "running", "waiting_approval", "failed")


def add_operations(commands: Commands) -> None:
    """Add the commands for operators."""
    _add_smoke(commands.add_parser("smoke", help="test a deployment from end to end"))
    _add_doctor(commands.add_parser("doctor", help="report what is wrong, and the next command to type"))
    _add_queue(commands.add_parser("queue", help="show, pause or resume the queue; cancel or retry many runs"))
    _add_autoscale(
        commands.add_parser("autoscale", help="keep the number of workers on Render at what their work asks for")
    )
    _add_keys(commands.add_parser("keys", help="create, list and revoke API keys"))
    _add_audit(commands.add_parser("audit", help="check or export the record of who did what"))
    _add_purge(commands.add_parser("purge", help="delete finished runs that are old enough"))


def _add_smoke(smoke: argparse.ArgumentParser) -> None:
    smoke.add_argument("--base-url", type=base_url, required=True, help="the API (VM_API_TOKEN is sent)")
    smoke.add_argument(
        "--wait",
        type=wait_seconds,
        metavar="SECONDS",
        help="for a deployment in progress: how long until it responds and is ready (default: it must respond at once,"
        " and be ready within 30)",
    )
    smoke.add_argument(
        "--expect-build", type=filled, metavar="BUILD", help="also wait for an API and workers of this build or commit"
    )
    smoke.add_argument("--with-model", action="store_true", help="also make one short call of the model")
    smoke.add_argument("--json", action="store_true", help="one JSON object in place of lines")
    smoke.set_defaults(command=_smoke)


def _add_doctor(doctor: argparse.ArgumentParser) -> None:
    doctor.add_argument("--json", action="store_true", help="one JSON list in place of lines")
    doctor.set_defaults(command=_doctor)


def _add_queue(queue: argparse.ArgumentParser) -> None:
    queue.set_defaults(command=_queue, action="status", name=None, reason=None)
    place = "use a running API instead of VM_DB_URL"
    queue.add_argument("--base-url", type=base_url, help=place)
    where = argparse.ArgumentParser(add_help=False)
    # SUPPRESS, because a default of None would overwrite a --base-url that was given before the action.
    where.add_argument("--base-url", type=base_url, default=argparse.SUPPRESS, help=place)
    which = argparse.ArgumentParser(add_help=False)
    which.add_argument("--workflow", type=filled, help="runs of this workflow")
    which.add_argument("--older-than", type=duration, metavar="AGE", help="runs created longer ago, such as 90m or 7d")
    which.add_argument("--dry-run", action="store_true", help="show which runs match, and change nothing")
    actions = queue.add_subparsers(metavar="action", dest="action", help="(default: status)")
    actions.add_parser("status", parents=[where], help="how full it is, and who works on it")
    pause = actions.add_parser("pause", parents=[where], help="stop claiming; stages in flight go on")
    pause.add_argument("--reason", type=words, help="why; shown in the status of the queue")
    actions.add_parser("resume", parents=[where], help="claim again")
    cancel = actions.add_parser("cancel", parents=[where, which], help="cancel the runs that match")
    cancel.add_argument("--status", choices=STATUSES, help="runs in this status (default: all that are open)")
    retry = actions.add_parser("retry", parents=[where, which], help="retry the failed runs that match")
    retry.add_argument("--status", choices=("failed",), help="all failed runs")
    provider = actions.add_parser("resume-provider", parents=[where], help="call a paused model provider again")
    provider.add_argument("name", type=filled, metavar="NAME", help="such as kimi")


def _add_autoscale(autoscale: argparse.ArgumentParser) -> None:
    autoscale.add_argument(
        "--service", type=service_id, metavar="ID", help="the workers' service (default: VM_AUTOSCALE_SERVICE_ID)"
    )
    autoscale.add_argument("--min", type=fewest_workers, metavar="N", help="fewest workers (VM_AUTOSCALE_MIN, or 1)")
    autoscale.add_argument("--max", type=most_workers, metavar="N", help="most workers (VM_AUTOSCALE_MAX, or 10)")
    autoscale.add_argument(
        "--target-wait-seconds",
        type=target_seconds,
        metavar="SECONDS",
        help="how long work should wait for a worker at most (VM_AUTOSCALE_TARGET_WAIT_SECONDS, or 30)",
    )
    autoscale.add_argument("--dry-run", action="store_true", help="tell and record what it would set, and set nothing")
    autoscale.set_defaults(command=_autoscale)


def _add_keys(keys: argparse.ArgumentParser) -> None:
    actions = keys.add_subparsers(metavar="action", dest="action", required=True)
    create = actions.add_parser("create", help="create a key; its secret is shown once")
    create.add_argument("name", type=filled, help="who will use it")
    create.add_argument(
        "--role",
        choices=ROLES,
        help="what its user may do: viewer reads; editor also creates and decides; operator also pauses the queue and"
        " acts on many runs; admin everything (default: admin)",
    )
    create.add_argument("--lasts", type=duration, metavar="TIME", help="such as 90d (default: until it is revoked)")
    actions.add_parser("list", help="show every key without its secret")
    revoke = actions.add_parser("revoke", help="revoke a key")
    revoke.add_argument("name", type=filled, help="its name or id")
    keys.set_defaults(command=_keys)


def _add_audit(audit: argparse.ArgumentParser) -> None:
    actions = audit.add_subparsers(metavar="action", dest="action", required=True)
    verify = actions.add_parser("verify", help="check that no entry was changed or removed, and say up to which one")
    verify.add_argument("--known", type=place, metavar="POSITION:HASH", help="a place of the chain as it was exported")
    export = actions.add_parser("export", help="print what is sealed, a line of JSON for each entry")
    start = export.add_mutually_exclusive_group()
    start.add_argument("--since", type=moment, metavar="TIME", help="sealed since then: 2026-11-01, or 7d ago")
    start.add_argument("--after", type=position, metavar="POSITION", help="after this position, to continue an export")
    audit.set_defaults(command=_audit)


def _add_purge(purge: argparse.ArgumentParser) -> None:
    purge.add_argument("--older-than", type=duration, required=True, metavar="AGE", help="finished longer ago: 90d")
    purge.add_argument("--dry-run", action="store_true", help="show how many, and delete nothing")
    purge.set_defaults(command=_purge)


def _smoke(arguments: argparse.Namespace) -> int:
    settings = read_environment(quiet=True, remote=True)
    from vm_webapp.cli.smoke import run_smoke
    from vm_webapp.ops.smoke import SmokeOptions

    options = SmokeOptions(
        arguments.base_url, arguments.wait, arguments.with_model, expected_build=arguments.expect_build
    )
    return run_smoke(settings, options, as_json=arguments.json)


def _doctor(arguments: argparse.Namespace) -> int:
    settings = read_environment(quiet=True)
    from vm_webapp.cli.doctor import run_doctor

    return run_doctor(settings, as_json=arguments.json)


def _queue(arguments: argparse.Namespace) -> int:
    settings = read_environment(quiet=True, remote=arguments.base_url is not None)
    from vm_webapp.cli.queue import QueueOptions, run_queue
    from vm_webapp.ops.bulk import BulkFilter

    given = vars(arguments)
    age = given.get("older_than")
    where = BulkFilter(given.get("status"), given.get("workflow"), age.total_seconds() if age else None)
    if arguments.action in ("cancel", "retry") and where == BulkFilter():
        raise ConfigurationError("say which runs: --status, --workflow or --older-than")
    options = QueueOptions(
        action=arguments.action or "status",
        provider=arguments.name,
        reason=arguments.reason,
        where=where,
        dry_run=given.get("dry_run", False),
        base_url=arguments.base_url,
    )
    return run_queue(settings, options)


def _autoscale(arguments: argparse.Namespace) -> int:
    parents = record_parents()
    settings = read_environment()
    from vm_webapp.cli.autoscale import AutoscaleOptions, run_autoscale

    options = AutoscaleOptions(
        service=arguments.service,
        min_workers=arguments.min,
        max_workers=arguments.max,
        target_wait_seconds=arguments.target_wait_seconds,
        dry_run=arguments.dry_run,
    )
    return run_autoscale(settings, options, parents if settings.managed else Parents())


def _keys(arguments: argparse.Namespace) -> int:
    settings = read_environment(quiet=True)
    from vm_webapp.cli import keys

    if arguments.action == "create":
        return keys.run_create(settings, arguments.name, arguments.role, arguments.lasts)
    if arguments.action == "revoke":
        return keys.run_revoke(settings, arguments.name)
    return keys.run_list(settings)


def _audit(arguments: argparse.Namespace) -> int:
    settings = read_environment(quiet=True)
    from vm_webapp.cli import audit

    if arguments.action == "verify":
        return audit.run_verify(settings, arguments.known)
    return audit.run_export(settings, since=arguments.since, after=arguments.after)


def _purge(arguments: argparse.Namespace) -> int:
    settings = read_environment(quiet=True)
    from vm_webapp.cli.purge import run_purge

    return run_purge(settings, arguments.older_than, dry_run=arguments.dry_run)
