"""What is done with many runs at once: first a page that says to which it would happen, then the change."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any, NamedTuple
from uuid import UUID

from aiohttp import web

from api.auth.actors import ACTOR, require
from api.http.problems import RequestError
from api.services import services
from api.ui.forms import read_known_fields
from api.ui.places import RUNS, local_path, see_other
from api.ui.rendering import site_page
from api.ui.sent_once import ONCE, new_token, send_once
from vm_webapp.access.roles import Role
from vm_webapp.ops import bulk
from vm_webapp.ops.bulk import BATCH, BulkFilter, BulkResult
from vm_webapp.runs import queries


class Action(NamedTuple):
    """Something to do with many runs.

    Attributes:
        role: who may; as the operations of the API that do the same.
        verb: of the button.
        busy: what the button says meanwhile.
        effect: what it does to a run.
        others: why runs are left as they are.
        change: does it.
    """

    role: Role
    verb: str
    busy: str
    effect: str
    others: str
    change: Callable[..., BulkResult]


ACTIONS: Mapping[str, Action] = {
    "cancel": Action(
        "operator", "Cancel", "Canceling …", "What has been written stays. A canceled run cannot go on.",
        "they have ended", bulk.cancel_matching,
    ),
    "retry": Action(
        "operator", "Retry", "Retrying …", "Each goes on with the stage that failed.",
        "only failed ones can be retried", bulk.retry_matching,
    ),
    "archive": Action(
        "editor", "Archive", "Archiving …", "Lists leave them out. You can bring them back.",
        "they have not ended, or are archived already", partial(bulk.archive_matching, archived=True),
    ),
    "unarchive": Action(
        "editor", "Bring back", "Bringing back …", "Lists show them again.", "they are not archived",
        partial(bulk.archive_matching, archived=False),
    ),
}  # fmt: skip


async def show_selection(request: web.Request) -> web.Response:
    """Show what would happen to which of the selected runs; nothing changes."""
    require(request, "editor")
    name, action = _action(request.query.get("action", ""))
    require(request, action.role)
    ids = _ids(request.query.getall("run", []))
    back = _back(request.query.get("back", ""))

    def read() -> Mapping[str, Any]:
        runs = queries.read_runs(ids)
        changed: tuple[UUID, ...] = ()
        if runs:
            where = BulkFilter(run_ids=tuple(run.id for run in runs))
            changed = action.change(where, actor=request[ACTOR], dry_run=True).run_ids
        return {
            "changing": [run for run in runs if run.id in changed],
            "others": [run for run in runs if run.id not in changed],
            "gone": len(ids) - len(runs),
        }

    return await site_page(
        request,
        "run_selection.html",
        read,
        name=name,
        action=action,
        back=back,
        here=request.rel_url.raw_path_qs,
        once=new_token(),
        titles=services(request).catalog.titles,
    )


async def change_selection(request: web.Request) -> web.Response:
    """Do it, and go back to the list."""
    require(request, "editor")
    fields = await read_known_fields(request, {ONCE, "action", "runs", "back"})
    name, action = _action(fields.get("action", ""))
    require(request, action.role)
    ids = _ids(fields.get("runs", "").split())
    back, actor = _back(fields.get("back", "")), request[ACTOR]

    def effect() -> str:
        done = action.change(BulkFilter(run_ids=tuple(ids)), actor=actor).changed if ids else 0
        return f"{back}{'&' if '?' in back else '?'}done={name}.{done}.{len(ids) - done}"

    return see_other((await send_once(request, fields, effect)).location)


def _action(name: str) -> tuple[str, Action]:
    if name not in ACTIONS:
        raise RequestError(400, "malformed_form", "the form says nothing that can be done with runs")
    return name, ACTIONS[name]


def _ids(texts: Iterable[str]) -> list[UUID]:
    try:
        found = [UUID(text) for text in dict.fromkeys(texts)]
    except ValueError:
        raise RequestError(400, "malformed_form", "the form names a run in a way that no run is named") from None
    if len(found) > BATCH:
        raise RequestError(400, "malformed_form", f"at most {BATCH} runs at a time")
    return found


def _back(path: str) -> str:
    """Return where the list is that the runs were selected on."""
    return path if path.split("?")[0] == RUNS and local_path(path) == path else RUNS
