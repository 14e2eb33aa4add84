"""The first page: what needs this person, what is in progress, and what has failed."""

from __future__ import annotations

from calendar import monthrange
from datetime import UTC, date, datetime, timedelta
from typing import Any
from uuid import UUID

from aiohttp import web

from api.auth.actors import ACTOR
from api.services import services
from api.ui.rendering import site_page
from vm_webapp.runs import queries
from vm_webapp.runs.queries import RunFilter
from vm_webapp.runs.records import RunRecord, RunStatus
from vm_webapp.usage.reports import UsageRow, read_usage

MOST_SHOWN, FINISHED_SHOWN = 20, 5
FAILED_WITHIN = timedelta(days=1)


async def show_home(request: web.Request) -> web.Response:
    """Show the first page."""
    actor = request[ACTOR]
    titles = services(request).catalog.titles

    def read() -> dict[str, Any]:
        drafts = queries.read_drafts(actor, limit=MOST_SHOWN)
        moving = [*_newest("running"), *_newest("queued")]
        failed = RunFilter("failed", finished_after=datetime.now(UTC) - FAILED_WITHIN)
        found = queries.look_for_runs(failed, limit=MOST_SHOWN, after=None).page
        return {
            "reviews": drafts.own,
            "others": drafts.others,
            "moving": moving[:MOST_SHOWN],
            "more_moving": len(moving) > MOST_SHOWN,
            "used": usage_of_month(datetime.now(UTC).date()),
            "failed": found.items,
            "more_failed": found.next_position is not None,
            "finished": queries.list_runs(RunFilter("completed"), limit=FINISHED_SHOWN, after=None).items,
        }

    return await site_page(request, "home.html", read, titles=titles)


def usage_of_month(today: date, *, brand_id: UUID | None = None) -> UsageRow | None:
    """Return what the calls of the month have used so far, all or those for a brand; None if there were none."""
    # To its last day, and not to today: elsewhere another day may have begun.
    last = today.replace(day=monthrange(today.year, today.month)[1])
    return next(iter(read_usage(today.replace(day=1), last, by=(), brand_id=brand_id)), None)


def _newest(status: RunStatus) -> tuple[RunRecord, ...]:
    return queries.list_runs(RunFilter(status), limit=MOST_SHOWN + 1, after=None).items
