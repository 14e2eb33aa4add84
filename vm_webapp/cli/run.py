"""``run``: create or retry one run from the terminal and follow it, over the same API that every client uses."""

from __future__ import annotations

import asyncio
import shlex
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from vm_webapp.cli.context import find_id
from vm_webapp.cli.output import as_called
from vm_webapp.cli.progress import follow
from vm_webapp.cli.review import approve, review
from vm_webapp.cli.sigterm import SIGTERM_ENDED, cancel_at_sigterm
from vm_webapp.cli.terminal import can_ask, open_console, say
from vm_webapp.client import ApiClient, open_api
from vm_webapp.client.errors import ApiError
from vm_webapp.client.shapes import Budget, Run
from vm_webapp.errors import ConfigurationError, VMError
from vm_webapp.settings import Settings
from vm_webapp.text import plural

if TYPE_CHECKING:
    from vm_webapp.workflows.loader import Catalog


class RunFailed(VMError):
    """The run did not complete."""

    code = "run_failed"


@dataclass(frozen=True, slots=True)
class RunOptions:
    """The options of the command line.

    Attributes:
        request: the text of the request, None for a run that exists.
        resume: the run to come back to, or None.
        retry: the failed run to retry, or None.
        from_stage: the stage with which the retry begins, None for the one that failed.
        workflow: the workflow of a new run.
        brand: the id or name of a new run's brand, or None.
        project: the id or name of a new run's project, or None.
        budget_tokens: tokens that the run's calls may use, None for any number, or with ``retry`` for the run's own.
        budget_money: money that they may cost, likewise.
        auto_approve: approve drafts without asking.
        base_url: a running API, None to start everything here.
        output: the folder for the artifacts, None for one named after the run.
    """

    request: str | None
    resume: str | None
    retry: str | None
    from_stage: str | None
    workflow: str
    brand: str | None
    project: str | None
    budget_tokens: int | None
    budget_money: str | None
    auto_approve: bool
    base_url: str | None
    output: str | None

    @property
    def budget(self) -> Budget | None:
        """The run's budget, None where none is given."""
        if self.budget_tokens is None and self.budget_money is None:
            return None
        return Budget(tokens=self.budget_tokens, money=self.budget_money)


def run_in_terminal(settings: Settings, options: RunOptions) -> int:
    """Create a run, retry one or come back to one, show its progress, ask for its reviews, and write its artifacts.

    Returns:
        0 if the run completed, or waits for the person to come back; 143 if SIGTERM ended the command.

    Raises:
        RunFailed: the run did not complete; the message says why.
        ApiError: the API does not respond, or refuses what is asked for.
        ConfigurationError: the API refuses the credentials or a value, or the brand or project is unknown.
    """
    # Before there is an event loop, which would not handle Ctrl-C until the last template has been checked.
    catalog = None if options.base_url is not None else _load_catalog(settings)
    try:
        return asyncio.run(_run(settings, options, catalog))
    except asyncio.CancelledError:
        return SIGTERM_ENDED


def _load_catalog(settings: Settings) -> Catalog:
    from vm_webapp.workflows.loader import load_catalog

    return load_catalog(settings.workflows_path)


async def _run(settings: Settings, options: RunOptions, catalog: Catalog | None) -> int:
    console = open_console()
    # Like Ctrl-C, so that the terminal is left as it was, and what was typed is kept.
    cancel_at_sigterm()
    async with _api(settings, options.base_url, catalog) as client:
        run = await _begin(client, options)
        say(console, f"Run {run['id']} · {run['workflow']}")
        if options.auto_approve:
            say(console, "Reviews are passed without asking.")
        try:
            run = await _follow_and_review(client, run, options, console)
            if run["status"] == "waiting_approval":
                say(console, _come_back(options, run))
                return 0
            if run["status"] == "failed":
                say(console, as_called(f"Try again with: {_again(options, '--retry', run)}"))
            await _conclude(client, run, options.output, console)
        except (asyncio.CancelledError, KeyboardInterrupt, ApiError, ConfigurationError):
            # The run goes on without this command, and the same command again would start and pay for another one.
            say(console, _come_back(options, run))
            raise
    return 0


async def _follow_and_review(client: ApiClient, run: Run, options: RunOptions, console: Console) -> Run:
    """Return the run when it has ended, or when the person at its review wants to come back later."""
    while True:
        run = await follow(client, run, console)
        if run["status"] != "waiting_approval":
            return run
        if options.auto_approve:
            await approve(client, run)
        elif not can_ask():
            # Exit code 1, so that a pipeline which forgot --yes does not take the run for completed.
            raise RunFailed(
                "the run waits for a review, and there is no terminal to ask on (--yes approves without asking);"
                f" come back with: {_again(options, '--resume', run)}"
            )
        elif not await review(client, run, console):
            return run
        run = await client.runs.read(run["id"])


async def _begin(client: ApiClient, options: RunOptions) -> Run:
    if options.resume is not None:
        return await client.runs.read(options.resume)
    if options.retry is not None:
        return await client.runs.retry(options.retry, from_stage=options.from_stage, budget=options.budget)
    assert options.request is not None
    return await client.runs.create(
        workflow=options.workflow,
        request=options.request,
        auto_approve=options.auto_approve,
        brand_id=await find_id(client.brands, options.brand),
        project_id=await find_id(client.projects, options.project),
        budget=options.budget,
    )


def _come_back(options: RunOptions, run: Run) -> str:
    return as_called(f"Come back with: {_again(options, '--resume', run)}")


def _again(options: RunOptions, option: str, run: Run) -> str:
    """Return the command that comes back to a run."""
    api = f" --base-url {shlex.quote(options.base_url)}" if options.base_url else ""
    return f"python -m vm_webapp run {option} {run['id']}{api}"


async def _conclude(client: ApiClient, run: Run, output: str | None, console: Console) -> None:
    if run["status"] != "completed":
        reason = run["error"]["message"] if run["error"] else "somebody canceled it"
        raise RunFailed(f"the run {run['status']}: {reason}")
    for stage in run["stages"]:
        # ``get``: an API of an earlier build sends neither.
        if stage["artifact"] and stage["artifact"].get("truncated"):
            say(console, f"{stage['title']} is truncated: the model reached its budget, so the text breaks off")
        if stage["artifact"] and (note := stage["artifact"].get("note")):
            say(console, f"{stage['title']}: {note}")
    written = _save(await _artifacts(client, run), Path(output or f"{run['workflow']}-{run['id']}"))
    say(console, f"completed: {plural(len(written), 'artifact')}")
    for path in written:
        say(console, f"  {path}")


@asynccontextmanager
async def _api(settings: Settings, base_url: str | None, catalog: Catalog | None) -> AsyncIterator[ApiClient]:
    if base_url is not None:
        async with open_api(base_url, settings.api_token) as client:
            yield client
        return
    assert catalog is not None, "it was loaded for the API of this process"
    # Imported here: a run on another API needs none of the server, which is most of what this command loads.
    from vm_webapp.cli.serve import running_stack

    lines: list[str] = []
    with_worker = not settings.managed
    async with running_stack(settings, catalog, "127.0.0.1", 0, with_worker=with_worker, on_lines=lines.extend):
        url = lines[0].split()[-1]
        # trust_env is off, because a proxy of the environment could not reach this machine's loopback.
        async with open_api(url, settings.api_token, trust_env=False) as client:
            yield client


async def _artifacts(client: ApiClient, run: Run) -> dict[str, str]:
    """Return the newest artifact of each stage: file name → text."""
    return {
        f"{stage['position']:02}-{stage['artifact']['name']}": (
            await client.runs.artifact(run["id"], stage["key"])
        ).decode(errors="replace")
        for stage in run["stages"]
        if stage["artifact"]
    }


def _save(artifacts: dict[str, str], folder: Path) -> list[Path]:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in artifacts.items():
            (folder / name).write_text(text, encoding="utf-8")
    except OSError as error:
        raise ConfigurationError(f"{folder} cannot be written: {error.strerror}; choose another --output") from error
    return [folder / name for name in artifacts]
