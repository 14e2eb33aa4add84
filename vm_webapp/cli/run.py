"""``run``: one run from the terminal, over the same API that everybody uses."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn

from vm_webapp.cli.serve import running_stack
from vm_webapp.errors import ConfigurationError, VMError
from vm_webapp.settings import Settings

API = "/api/v2"
FINAL = ("completed", "failed", "canceled")
WAIT_SECONDS = 1
MARKS = {"completed": "[green]✓[/]", "failed": "[red]✗[/]", "canceled": "[yellow]–[/]"}


class RunFailed(VMError):
    """The run did not complete, or the API refused it."""

    code = "run_failed"


def run_in_terminal(
    settings: Settings, *, request: str, workflow: str, base_url: str | None, output: str | None
) -> int:
    """Create a run, show its progress, and write its documents.

    Args:
        settings: what the environment says.
        request: what is wanted.
        workflow: which workflow. Reviews are passed: nobody is asked.
        base_url: a running API, None to start everything here.
        output: folder for the documents, None for one named after the run.

    Returns:
        0 when the run completed.

    Raises:
        RunFailed: it did not; the text says why.
        ConfigurationError: the API cannot be reached or does not let us in.
    """
    return asyncio.run(_run(settings, request, workflow, base_url, output))


async def _run(settings: Settings, request: str, workflow: str, base_url: str | None, output: str | None) -> int:
    console = Console()
    async with _api(settings, base_url) as client:
        wanted = {"workflow": workflow, "request": request, "auto_approve": True}
        run = await _call(client, "POST", f"{API}/runs", json=wanted)
        console.print(f"Run {run['id']} · {workflow} · reviews are passed without asking", highlight=False)
        run = await _follow(client, run, console)
        if run["status"] != "completed":
            error = run["error"] or {"message": "it was canceled"}
            raise RunFailed(f"the run {run['status']}: {error['message']}")
        folder = Path(output or f"{workflow}-{run['id']}")
        documents = _save(await _documents(client, run), folder)
        console.print(f"completed: {len(documents)} documents", highlight=False)
        for path in documents:
            console.print(f"  {path}", highlight=False, soft_wrap=True)
    return 0


@asynccontextmanager
async def _api(settings: Settings, base_url: str | None) -> AsyncIterator[httpx.AsyncClient]:
    headers = {"Authorization": f"Bearer {settings.api_token}"} if settings.api_token else {}
    if base_url is not None:
        async with httpx.AsyncClient(base_url=base_url, headers=headers, timeout=60) as client:
            yield client
        return
    said: list[str] = []
    with_worker = not settings.managed
    async with running_stack(settings, "127.0.0.1", 0, with_worker=with_worker, on_lines=said.extend):
        url = said[0].split()[-1]
        async with httpx.AsyncClient(base_url=url, headers=headers, timeout=60, trust_env=False) as client:
            yield client


async def _follow(client: httpx.AsyncClient, run: dict[str, Any], console: Console) -> dict[str, Any]:
    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(20), TimeElapsedColumn())
    with Progress(*columns, console=console) as progress:
        bars = {stage["key"]: progress.add_task(stage["title"], total=1, start=False) for stage in run["stages"]}
        while True:
            for stage in run["stages"]:
                _show(progress, bars[stage["key"]], stage)
            if run["status"] in FINAL:
                return run
            run = await _call(client, "GET", f"{API}/runs/{run['id']}", params={"wait": WAIT_SECONDS})


def _show(progress: Progress, bar: TaskID, stage: dict[str, Any]) -> None:
    if stage["started_at"] and not progress.tasks[bar].started:
        progress.start_task(bar)
    error = f" · {stage['error']['message']}" if stage["error"] else ""
    mark = MARKS.get(stage["status"], " ")
    state = "" if stage["status"] in MARKS else f" · {stage['status'].replace('_', ' ')}"
    progress.update(bar, description=f"{mark} {stage['title']}{state}{error}")
    if stage["status"] == "completed":
        progress.update(bar, completed=1)
        progress.stop_task(bar)


async def _documents(client: httpx.AsyncClient, run: dict[str, Any]) -> dict[str, str]:
    """Return the newest document of each stage: file name → text."""
    documents = {}
    for stage in run["stages"]:
        if stage["artifact"]:
            response = await client.get(f"{API}/runs/{run['id']}/artifacts/{stage['key']}")
            response.raise_for_status()
            documents[f"{stage['position']:02}-{stage['artifact']['name']}"] = response.text
    return documents


def _save(documents: dict[str, str], folder: Path) -> list[Path]:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in documents.items():
            (folder / name).write_text(text, encoding="utf-8")
    except OSError as error:
        raise ConfigurationError(f"{folder} cannot be written: {error.strerror}; choose another --output") from error
    return [folder / name for name in documents]


async def _call(client: httpx.AsyncClient, method: str, path: str, **options: Any) -> dict[str, Any]:
    try:
        response = await client.request(method, path, **options)
        body: dict[str, Any] = response.json()
    except (httpx.InvalidURL, httpx.UnsupportedProtocol) as error:
        raise ConfigurationError(f"--base-url is not a URL: {error}") from error
    except httpx.HTTPError as error:
        raise ConfigurationError(f"the API at {_address(client)} does not answer: {error}") from error
    except ValueError as error:
        raise ConfigurationError(f"{_address(client)} is not this API: it answered no JSON") from error
    if response.is_success:
        return body
    detail = body.get("detail", response.reason_phrase)
    if response.status_code in (401, 403):
        raise ConfigurationError(detail)
    raise RunFailed(detail)


def _address(client: httpx.AsyncClient) -> str:
    return str(client.base_url).rstrip("/")
