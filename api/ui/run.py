"""The page of a run: what it waits for, when each stage was worked on, its documents, and its timeline."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from aiohttp import web

from api.operations.inputs import read_path
from api.schemas.runs import RunPath
from api.ui.rendering import site_page
from api.ui.sent_once import new_token
from api.ui.timeline import FAILURES, entry_of
from api.ui.waterfall import kinds_of, waterfall_of
from vm_webapp.runs import queries
from vm_webapp.runs.records import RunRecord, WaitingOn
from vm_webapp.text import sentence

MOST_EVENTS = 1000
MOST_SHOWN = 200  # events, unless all are asked for: the page is read again whenever something changes
LONG_TIMELINE = 30  # events, from which on the failures alone can be asked for
FAILED, ALL = "failed", "all"  # what ``show`` in the query may ask for
# What would move a run that waits, where the core's sentence does not say so itself.
REMEDIES: Mapping[str, str] = {
    "no_worker": "It goes on by itself as soon as an operator has started a worker.",
    "queue_paused": "It goes on by itself as soon as an operator resumes the queue.",
    "provider_paused": "The banner above says more.",
    "brand_budget": "The run goes on by itself then, or as soon as an editor has raised the brand's budget.",
}
UNTIL: Mapping[str, str] = {"brand_budget": "The new day begins"}  # where it is not another try that comes then


async def show_run(request: web.Request) -> web.Response:
    """Show a run."""
    return await run_page(request, read_path(RunPath, request).run_id)


async def run_page(
    request: web.Request, run_id: UUID, *, status: int = 200, problem: str | None = None
) -> web.Response:
    """Return the page of a run.

    Args:
        request: the request for it, or one that would have changed the run and could not.
        run_id: the run.
        status: the status of the response.
        problem: why the run was not changed, or None.
    """
    asked = request.query.get("show")
    show = asked if asked in (FAILED, ALL) else None

    def read() -> Mapping[str, Any]:
        run = queries.read_run(run_id)
        history = queries.read_history(run_id, limit=MOST_EVENTS)
        titles = {stage.key: stage.title for stage in run.stages}
        waterfall = waterfall_of(run.stages, history.events, now=datetime.now(UTC))
        chosen = [event for event in history.events if show != FAILED or event.type in FAILURES]
        shown = chosen if show == ALL else chosen[-MOST_SHOWN:]
        return {
            "run": run,
            "origin": queries.read_origin(run_id),
            "waterfall": waterfall,
            "kinds": kinds_of(waterfall.rows),
            "timeline": [entry_of(event, titles) for event in reversed(shown)],
            "failures": sum(event.type in FAILURES for event in history.events),
            "is_long": len(history.events) > LONG_TIMELINE,
            "hidden": len(chosen) - len(shown),
            "is_cut": history.is_cut,
            "waits": _why(run.waiting_on),
            "until": UNTIL.get(run.waiting_on.kind, "The next try is") if run.waiting_on else None,
            "reviewed": next((stage for stage in run.stages if stage.status == "waiting_approval"), None),
            "forkable": forkable_from(run),
            "retryable": retryable_from(run),
            "spending": queries.read_spending(run_id) if run.budget else None,
        }

    here = f"/ui/runs/{run_id}" + (f"?show={show}" if show else "")
    return await site_page(
        request,
        "run.html",
        read,
        status=status,
        problem=problem,
        show=show,
        here=here,
        once=new_token(),
    )


def _why(waiting_on: WaitingOn | None) -> str | None:
    """Return why a run waits and what would move it, in sentences; None where it does not, or for a person."""
    if waiting_on is None or waiting_on.kind == "approval":
        return None
    detail = waiting_on.detail.rstrip(" .:")
    return " ".join(filter(None, (sentence(detail), REMEDIES.get(waiting_on.kind))))


def forkable_from(run: RunRecord) -> frozenset[str]:
    """Return the keys of the stages from which the run can be forked: all before them are done."""
    done = 0
    while done < len(run.stages) and run.stages[done].status == "completed":
        done += 1
    return frozenset(stage.key for stage in run.stages[: done + 1])


def retryable_from(run: RunRecord) -> frozenset[str]:
    """Return the keys of the stages from which a failed run can be retried: that which failed and those before it."""
    if run.status != "failed":
        return frozenset()
    failed = next((stage.position for stage in run.stages if stage.status == "failed"), 0)
    return frozenset(stage.key for stage in run.stages if stage.position <= failed)
