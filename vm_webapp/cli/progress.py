"""Shows a run while it moves: a bar for each stage, and how much of its document is written."""

from __future__ import annotations

import asyncio
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn

from vm_webapp.cli.client import ApiClient

AT_REST = ("completed", "failed", "canceled", "waiting_approval")
MARKS = {"completed": "[green]✓[/]", "failed": "[red]✗[/]", "canceled": "[yellow]–[/]"}
RECONNECT_SECONDS = 1.0
# A document's length is not known before it is written; most come to about this, and the bar never fills by itself.
USUAL_CHARACTERS = 12_000


async def follow(client: ApiClient, run: dict[str, Any], console: Console) -> dict[str, Any]:
    """Show a run until nothing moves it but a person, and return it as it is then."""
    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(20), TimeElapsedColumn())
    with Progress(*columns, console=console) as progress:
        bars = _Bars(progress, run)
        while True:
            run = await client.get(f"/runs/{run['id']}")
            bars.show(run)
            if run["status"] in AT_REST:
                return run
            async for notice in client.events(run["id"]):
                if "type" not in notice:
                    bars.show_writing(notice["stage"], notice["offset"] + len(notice["text"]))
                    continue
                run = await client.get(f"/runs/{run['id']}")
                bars.show(run)
                if run["status"] in AT_REST:
                    return run
            await asyncio.sleep(RECONNECT_SECONDS)


class _Bars:
    def __init__(self, progress: Progress, run: dict[str, Any]) -> None:
        self._progress = progress
        self._bars: dict[str, TaskID] = {
            stage["key"]: progress.add_task(stage["title"], total=1.0, start=False) for stage in run["stages"]
        }

    def show(self, run: dict[str, Any]) -> None:
        """Show every stage as it stands."""
        for stage in run["stages"]:
            self._show_stage(stage, run["waiting_on"])

    def show_writing(self, key: str, characters: int) -> None:
        """Show how much of a document is written."""
        written = characters / (characters + USUAL_CHARACTERS)
        self._progress.update(self._bars[key], completed=written)

    def _show_stage(self, stage: dict[str, Any], waiting_on: dict[str, Any] | None) -> None:
        bar = self._bars[stage["key"]]
        if stage["started_at"] and not self._task(bar).started:
            self._progress.start_task(bar)
        self._progress.update(bar, description=_description(stage, waiting_on))
        if stage["status"] == "completed":
            self._progress.update(bar, completed=1.0)
            self._progress.stop_task(bar)

    def _task(self, bar: TaskID) -> Any:
        return next(task for task in self._progress.tasks if task.id == bar)


def _description(stage: dict[str, Any], waiting_on: dict[str, Any] | None) -> str:
    mark = MARKS.get(stage["status"], " ")
    if stage["status"] in MARKS:
        error = f" · {stage['error']['message']}" if stage["error"] else ""
        return f"{mark} {stage['title']}{error}"
    if stage["status"] == "queued" and waiting_on:
        return f"{mark} {stage['title']} · {waiting_on['detail']}"
    return f"{mark} {stage['title']} · {stage['status'].replace('_', ' ')}"
