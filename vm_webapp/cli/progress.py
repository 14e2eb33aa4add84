"""Shows the progress of a run: a bar for each stage, which grows while the model writes the artifact."""

from __future__ import annotations

from contextlib import aclosing
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, SpinnerColumn, Task, TaskID, TimeElapsedColumn
from rich.table import Column
from rich.text import Text

from vm_webapp.cli.terminal import visible
from vm_webapp.client import ApiClient
from vm_webapp.client.shapes import Run, Stage, WaitingOn
from vm_webapp.text import single_line

AT_REST = ("completed", "failed", "canceled", "waiting_approval")
MARKS = {"completed": ("✓", "green"), "failed": ("✗", "red"), "canceled": ("–", "yellow")}
NO_MARK = (" ", "")
# The length of an artifact is unknown until it is written. Most have about this length; the formula below never reaches
# 1, so the bar does not fill before the stage is complete.
USUAL_CHARACTERS = 12_000


async def follow(client: ApiClient, run: Run, console: Console) -> Run:
    """Show a run until it has ended or waits for a person, and return it as it is then."""
    # A spinner of Braille dots, if the terminal has them.
    spinner = "line" if console.options.ascii_only else "dots"
    columns = (SpinnerColumn(spinner), _StageColumn(), BarColumn(20), TimeElapsedColumn())
    with Progress(*columns, console=console) as progress:
        bars = _Bars(progress, run)
        async with aclosing(client.runs.follow(run["id"])) as seen:
            async for run_or_writing in seen:
                if "status" not in run_or_writing:
                    bars.show_writing(run_or_writing["stage"], run_or_writing["offset"] + len(run_or_writing["text"]))
                    continue
                run = run_or_writing
                bars.show(run)
                if run["status"] in AT_REST:
                    break
    return run


class _StageColumn(ProgressColumn):
    """A mark and what the stage does; rich's own column of text would read markup in it."""

    def __init__(self) -> None:
        super().__init__(Column(no_wrap=True))

    def render(self, task: Task) -> Text:
        """Return the text of a stage."""
        return Text.assemble(task.fields["mark"], f" {visible(single_line(task.description))}")


class _Bars:
    def __init__(self, progress: Progress, run: Run) -> None:
        self._progress = progress
        self._bars: dict[str, TaskID] = {
            stage["key"]: progress.add_task(stage["title"], total=1.0, start=False, mark=NO_MARK)
            for stage in run["stages"]
        }

    def show(self, run: Run) -> None:
        """Show the current state of every stage."""
        for stage in run["stages"]:
            self._show_stage(stage, run["waiting_on"])

    def show_writing(self, key: str, characters: int) -> None:
        """Show how much of an artifact is written."""
        written = characters / (characters + USUAL_CHARACTERS)
        self._progress.update(self._bars[key], completed=written)

    def _show_stage(self, stage: Stage, waiting_on: WaitingOn | None) -> None:
        bar = self._bars[stage["key"]]
        if stage["started_at"] and not self._task(bar).started:
            self._progress.start_task(bar)
        mark = MARKS.get(stage["status"], NO_MARK)
        self._progress.update(bar, description=_description(stage, waiting_on), mark=mark)
        if stage["status"] == "completed":
            self._progress.update(bar, completed=1.0)
            self._progress.stop_task(bar)

    def _task(self, bar: TaskID) -> Any:
        return next(task for task in self._progress.tasks if task.id == bar)


def _description(stage: Stage, waiting_on: WaitingOn | None) -> str:
    if stage["status"] in MARKS:
        return f"{stage['title']} · {stage['error']['message']}" if stage["error"] else stage["title"]
    if stage["status"] == "queued" and waiting_on:
        return f"{stage['title']} · {waiting_on['detail']}"
    return f"{stage['title']} · {stage['status'].replace('_', ' ')}"
