"""The statuses of a run and its stages, replayed from the timeline and checked against the state machine's tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from vm_webapp.db.pool import rows, transaction
from vm_webapp.runs.states import RUN_TRANSITIONS, STAGE_TRANSITIONS

TABLES: Mapping[str, Mapping[Any, frozenset[Any]]] = {"run": RUN_TRANSITIONS, "stage": STAGE_TRANSITIONS}
STAGE_AFTER = {
    "stage.queued": "queued",
    "stage.started": "running",
    "stage.completed": "completed",
    "approval.requested": "waiting_approval",
    "stage.retry_scheduled": "queued",
    "stage.rescued": "queued",
    "stage.released": "queued",
    "stage.failed": "failed",
}
RUN_AFTER = {
    "run.started": "running",
    "approval.requested": "waiting_approval",
    "run.completed": "completed",
    "run.failed": "failed",
    "run.canceled": "canceled",
    "run.retried": "queued",
}
NO_CHANGE = {"run.created", "approval.granted", "changes.requested"}

# Every event keeps the snapshot that it was written under. If the writer of the run's event before it is visible there,
# that writer had committed before this event was even written, so the order of ids is the order of commits.
# A function that is VOLATILE sees what is committed when it is called, and not the snapshot of the statement that
# inserts, which may be from before that statement waited for the run's lock.
KEEP_SNAPSHOTS = """
CREATE FUNCTION seen_now() RETURNS pg_snapshot VOLATILE LANGUAGE plpgsql AS 'BEGIN RETURN pg_current_snapshot(); END';
ALTER TABLE events ADD COLUMN writer xid8 NOT NULL DEFAULT pg_current_xact_id(),
                   ADD COLUMN saw pg_snapshot NOT NULL DEFAULT seen_now()
"""
OUT_OF_ORDER = """
SELECT id FROM (SELECT id, writer, saw, lag(writer) OVER (PARTITION BY run_id ORDER BY id) AS before FROM events) e
 WHERE before <> writer AND NOT pg_visible_in_snapshot(before, saw)
"""


@dataclass
class Replay:
    """The state of a run after the events that were applied so far.

    Attributes:
        stages: status by key, in the order of the stages.
        edges: every transition that was seen: what moved, from where, to where.
        completions: how often each stage was completed.
    """

    stages: dict[str, str]
    run: str = "queued"
    edges: set[tuple[str, str, str]] = field(default_factory=set)
    completions: dict[str, int] = field(default_factory=dict)

    @classmethod
    def of(cls, keys: Sequence[str]) -> Replay:
        """Return the replay of a run before its first event."""
        return cls(dict.fromkeys(keys, "pending"))

    def apply(self, type: str, stage: str | None, data: Mapping[str, Any]) -> None:
        """Apply one more event, which must be a transition that the tables allow."""
        assert type in STAGE_AFTER or type in RUN_AFTER or type in NO_CHANGE, type
        # No event records that a waiting run resumes: the queued stage implies it.
        if type in RUN_AFTER:
            self._move_run(RUN_AFTER[type])
        elif type == "stage.queued" and self.run == "waiting_approval":
            self._move_run("running")
        if type == "run.canceled":
            for key, status in self.stages.items():
                if status != "completed":
                    self._move_stage(key, "canceled")
        if type == "run.retried":
            self._start_over(data["from_stage"])
        if type in STAGE_AFTER:
            assert stage is not None
            if data.get("taken_over"):
                self.stages[stage] = "completed"  # a fork creates the stage in this status: no transition led there
            else:
                self._move_stage(stage, STAGE_AFTER[type])
            self.completions[stage] = self.completions.get(stage, 0) + (type == "stage.completed")

    def _start_over(self, first: str) -> None:
        keys = list(self.stages)
        for key in keys[keys.index(first) + 1 :]:
            if self.stages[key] != "pending":
                self._move_stage(key, "pending")

    def _move_run(self, after: str) -> None:
        self._check("run", self.run, after)
        self.run = after

    def _move_stage(self, key: str, after: str) -> None:
        self._check("stage", self.stages[key], after)
        self.stages[key] = after

    def _check(self, what: str, before: str, after: str) -> None:
        assert after in TABLES[what][before], f"illegal: {what} {before} -> {after}"
        self.edges.add((what, before, after))


def replay_run(run_id: UUID) -> Replay:
    """Replay a run's whole timeline, and check that it leads to the statuses in the rows."""
    with transaction():
        (run,) = rows("SELECT status FROM runs WHERE id = %(id)s", id=run_id)
        stages = rows("SELECT key, status FROM stages WHERE run_id = %(id)s ORDER BY position", id=run_id)
        events = rows("SELECT type, stage, data FROM events WHERE run_id = %(id)s ORDER BY id", id=run_id)
    replay = Replay.of([stage["key"] for stage in stages])
    for event in events:
        replay.apply(**event)
    assert replay.run == run["status"]
    assert replay.stages == {stage["key"]: stage["status"] for stage in stages}
    return replay
