"""What can be done with many runs at once."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import NamedTuple

from api.http.problems import RequestError
from vm_webapp.access.roles import Role
from vm_webapp.ops import bulk
from vm_webapp.ops.bulk import BulkResult
from vm_webapp.runs.records import RunStatus


class Action(NamedTuple):
    """Something to do with many runs.

    Attributes:
        role: who may; as the operations of the API that do the same.
        verb: of the button.
        busy: what the button says meanwhile.
        effect: what it does to a run.
        others: why runs are left as they are.
        statuses: of the runs that it changes.
        archived: whether it changes archived ones only, or only those that are not; None for both.
        change: does it.
    """

    role: Role
    verb: str
    busy: str
    effect: str
    others: str
    statuses: tuple[RunStatus, ...]
    archived: bool | None
    change: Callable[..., BulkResult]


ACTIONS: Mapping[str, Action] = {
    "cancel": Action(
        "operator", "Cancel", "Canceling …", "What has been written stays. A canceled run cannot go on.",
        "they have ended", bulk.OPEN, None, bulk.cancel_matching,
    ),
    "retry": Action(
        "operator", "Retry", "Retrying …", "Each goes on with the stage that failed.",
        "only failed ones can be retried", ("failed",), None, bulk.retry_matching,
    ),
    "archive": Action(
        "editor", "Archive", "Archiving …", "Lists leave them out. You can unarchive them.",
        "they have not ended, or are archived already", bulk.FINAL, False,
        partial(bulk.archive_matching, archived=True),
    ),
    "unarchive": Action(
        "editor", "Unarchive", "Unarchiving …", "Lists show them again.", "they are not archived",
        bulk.FINAL, True, partial(bulk.archive_matching, archived=False),
    ),
}  # fmt: skip

DONE_WORDS = {"cancel": "canceled", "retry": "queued again", "archive": "archived", "unarchive": "unarchived"}


def action_of(name: str) -> Action:
    """Return the action of a name.

    Raises:
        RequestError: 400, there is none.
    """
    if name not in ACTIONS:
        raise RequestError(400, "malformed_form", "the form says nothing that can be done with runs")
    return ACTIONS[name]


def done_words(done: tuple[str, str, str]) -> str:
    """Return what an action has done: its name, how many runs it changed, and how many were left as they were."""
    name, changed, left = done
    number = f"{int(changed):,}"
    return f"{number} {DONE_WORDS[name]}." + (f" {int(left):,} left as they were." if int(left) else "")
