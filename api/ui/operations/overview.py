"""The page for operators: whether work can progress, what the queue does, who works on it, and what has failed."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from aiohttp import web

from api.auth.actors import require
from api.services import services
from api.ui.operations.charts import HEIGHT, WIDTH, charts_of
from api.ui.rendering import site_page
from vm_webapp.db.bundle import own_bundle
from vm_webapp.db.migrate.status import SchemaStatus, compare, read_applied
from vm_webapp.db.pool import rows
from vm_webapp.ops import queue_control
from vm_webapp.ops.failures import group_failures
from vm_webapp.ops.queue_history import read_queue_history
from vm_webapp.runs.pauses import read_pauses

HOURS, STEP_SECONDS = 6, 120
MOST_WORKERS, MOST_MIGRATIONS = 50, 5


async def show_operations(request: web.Request) -> web.Response:
    """Show the page."""
    require(request, "operator")
    return await operations_page(request)


async def operations_page(request: web.Request, *, status: int = 200, trouble: str = "") -> web.Response:
    """Return the page.

    Args:
        request: the request.
        status: the status of the response.
        trouble: why something was not done.
    """
    health = services(request).health.latest()

    def read() -> Mapping[str, Any]:
        now = datetime.now(UTC)
        pauses = read_pauses()
        workers = queue_control.list_workers()
        history = read_queue_history(hours=HOURS, step_seconds=STEP_SECONDS)
        schema = compare(own_bundle(), read_applied(rows))
        return {
            "queue": queue_control.read_queue(),
            "charts": charts_of(history, now=now, hours=HOURS, step_seconds=STEP_SECONDS),
            "history": history,
            "workers": [each for each in workers if each.fresh][:MOST_WORKERS],
            "gone": sum(not each.fresh for each in workers),
            "providers": {name: pauses.providers.get(name) for name in queue_control.list_providers()},
            "failures": group_failures(),
            "schema": schema,
            "migrations": schema.applied[-MOST_MIGRATIONS:],
            "rollback": rollback_of(schema),
        }

    return await site_page(
        request,
        "operations.html",
        read,
        status=status,
        trouble=trouble,
        health=health,
        hours=HOURS,
        width=WIDTH,
        height=HEIGHT,
    )


def rollback_of(schema: SchemaStatus) -> str:
    """Return the command that takes the newest migration back, empty if there is none."""
    stays = [*schema.applied, *schema.unknown][-2:-1]
    return f"python -m vm_webapp migrate down --to {stays[0]}" if stays else ""
