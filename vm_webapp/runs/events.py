"""The timeline: events are appended in the transaction of the change they tell of, after its row locks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from vm_webapp.db.pool import execute, json
from vm_webapp.runs.signals import run_changed


@dataclass(frozen=True, slots=True)
class NewEvent:
    """An event to be; ``data`` holds JSON values."""

    type: str
    stage: str | None = None
    data: dict[str, Any] = field(default_factory=dict)


def append_events(run_id: UUID, actor: str, *events: NewEvent) -> None:
    """Append events in the given order, inside the current transaction.

    The caller holds the lock of the run's row until it commits: that is what makes the order of ids within a run the
    order of commits.

    Args:
        run_id: whose timeline.
        actor: who made it happen: ``worker``, ``api``, a person's name.
        events: one or more, in order.
    """
    append_events_of_runs(actor, [(run_id, event) for event in events])


def append_events_of_runs(actor: str, events: Sequence[tuple[UUID, NewEvent]]) -> None:
    """Like ``append_events``, for several runs in one statement: each event comes with its run, whose lock is held."""
    parameters: dict[str, Any] = {"actor": actor}
    values = []
    for number, (run_id, event) in enumerate(events):
        values.append(f"(%(run{number})s, %(stage{number})s, %(type{number})s, %(actor)s, %(data{number})s)")
        parameters |= {
            f"run{number}": run_id,
            f"stage{number}": event.stage,
            f"type{number}": event.type,
            f"data{number}": json(event.data),
        }
    execute(f"INSERT INTO events (run_id, stage, type, actor, data) VALUES {', '.join(values)}", **parameters)
    for run_id in {run_id for run_id, _ in events}:
        run_changed.raise_after_commit(run_id)
