"""The timeline: events are appended in the transaction of the change that they record, after its row locks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any
from uuid import UUID

from vm_webapp.db.compiled import Compiled, compiled, param
from vm_webapp.db.models import Event
from vm_webapp.db.pool import execute, jsonb
from vm_webapp.runs.signals import run_changed


@dataclass(frozen=True, slots=True)
class NewEvent:
    """An event to append; ``data`` holds JSON values."""

    type: str
    stage: str | None = None
    data: dict[str, Any] = field(default_factory=dict)


def append_events(run_id: UUID, actor: str, *events: NewEvent) -> None:
    """Append events in the given order, inside the current transaction.

    The caller holds the lock of the run's row until it commits, so that within a run the order of ids is the order of
    commits.

    Args:
        run_id: the run whose timeline gets them.
        actor: who caused them: ``worker``, ``api``, a person's name.
        events: one or more, in order.
    """
    append_events_of_runs(actor, [(run_id, event) for event in events])


def append_events_of_runs(actor: str, events: Sequence[tuple[UUID, NewEvent]]) -> None:
    """Like ``append_events``, for several runs in one statement: the caller holds the lock of each."""
    values: dict[str, Any] = {"actor": actor}
    for number, (run_id, event) in enumerate(events):
        values |= {
            f"run{number}": run_id,
            f"stage{number}": event.stage,
            f"type{number}": event.type,
            f"data{number}": jsonb(event.data),
        }
    # An id is taken from the sequence when its row is inserted, not at COMMIT. Without the run's lock, an event with a
    # lower id could be committed after a reader has passed it with "id > after", and that reader would never see it.
    execute(_insert(len(events)), **values)
    for run_id in {run_id for run_id, _ in events}:
        run_changed.raise_after_commit(run_id)


@lru_cache(maxsize=32)  # most transitions append one to four events; a rescue appends one for each of up to 100 stages
def _insert(count: int) -> Compiled:
    """Return the statement that appends this many events: PostgreSQL numbers the rows of VALUES in their order."""
    # ``returning()`` without arguments keeps Peewee from adding RETURNING with the primary key.
    return compiled(
        Event.insert_many(
            [
                {
                    Event.run: param(f"run{number}"),
                    Event.stage: param(f"stage{number}"),
                    Event.type: param(f"type{number}"),
                    Event.actor: param("actor"),
                    Event.data: param(f"data{number}"),
                }
                for number in range(count)
            ]
        ).returning()
    )
