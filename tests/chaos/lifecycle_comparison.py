"""Compares the real lifecycle with its model after each step of hypothesis' state machine."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from typing import Any, ClassVar
from uuid import UUID, uuid4

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant

from tests.chaos.lifecycle_model import ACTIVE, Model, ModelProvider, ModelRun, ModelStage
from tests.db.timeline import Replay
from vm_webapp.access.actor import Actor
from vm_webapp.db.pool import execute, row, rows, transaction
from vm_webapp.errors import Conflict, NotFound
from vm_webapp.runs import lifecycle, providers
from vm_webapp.runs.lifecycle import Claim, NewRun
from vm_webapp.runs.signals import stage_due
from vm_webapp.workflows.loader import load_catalog
from vm_webapp.workflows.model import RetryPolicy

MAX_FAILURES = 3
# The retry delays are so long that no queued stage becomes due by itself: only the rules make time pass.
_TEMPLATE = load_catalog().get("landing_page")
WORKFLOW = replace(
    _TEMPLATE,
    stages=(
        replace(_TEMPLATE.stages[0], key="draft", requires_approval=True),
        replace(_TEMPLATE.stages[1], key="sheet", requires_approval=False, needs_model=False),
        replace(_TEMPLATE.stages[2], key="final", requires_approval=True),
    ),
    retry=RetryPolicy(MAX_FAILURES, base_seconds=7200, max_seconds=7200),
)


class LifecycleComparison(RuleBasedStateMachine):
    """Applies each rule to both, and compares them afterwards.

    Attributes:
        edges: every transition in any example, as (run or stage, old status, new status).
        claims: all claims so far, so that rules can also act for attempts that lost their lease.
    """

    edges: ClassVar[set[tuple[str, str, str]]]

    def __init__(self) -> None:
        super().__init__()
        self.name = f"p-{uuid4()}"
        self.due: list[UUID] = []
        self._signals = ExitStack()
        self._signals.enter_context(stage_due.connected(self.due.append))
        self.model = Model(MAX_FAILURES)
        self.claims: list[Claim] = []
        self.next_tokens: dict[UUID, UUID] = {}
        self.replays: dict[UUID, Replay] = {}
        self.last_event = 0
        self.texts = 0

    def teardown(self) -> None:
        self._signals.close()
        with transaction():
            execute("DELETE FROM runs")
            execute("DELETE FROM providers")
            execute("UPDATE queues SET paused_at = NULL")
        for replay in self.replays.values():
            self.edges.update(replay.edges)

    @initialize(failures=st.sampled_from([0, 0, providers.OVERLOADS_BEFORE_PAUSE - 1]))
    def begin(self, failures: int) -> None:
        self.model.provider = ModelProvider(consecutive=failures)
        with transaction():
            execute(
                "INSERT INTO providers (name, consecutive_failures) VALUES (%(name)s, %(n)s)",
                name=self.name,
                n=failures,
            )
        self.make_run(auto=False)

    def take_due(self) -> list[UUID]:
        """Return the stages for which ``stage_due`` has fired since the last call."""
        due = list(self.due)
        self.due.clear()
        return due

    def due_after(self, act: Callable[[], object]) -> UUID | None:
        """Call ``act``; return the stage, at most one, for which it made ``stage_due`` fire."""
        self.due.clear()
        act()
        due = self.take_due()
        assert len(due) <= 1
        return due[0] if due else None

    def make_run(self, auto: bool, owner: str = "ann") -> None:
        """Create a run in the database and in the model."""
        run = lifecycle.create_run(NewRun(WORKFLOW, "a request", auto_approve=auto), actor=Actor(owner))
        self.expect_run(run.id, auto, owner).stages[0].move("queued")

    def expect_run(self, id: UUID, auto: bool, owner: str) -> ModelRun:
        """Add a run of the database to the model, with all its stages pending."""
        with transaction():
            stages = rows("SELECT id, key FROM stages WHERE run_id = %(id)s ORDER BY position", id=id)
        specs = [WORKFLOW.stage(stage["key"]) for stage in stages]
        made = [
            ModelStage(stage["id"], spec.key, spec.needs_model, spec.requires_approval)
            for stage, spec in zip(stages, specs, strict=True)
        ]
        run = ModelRun(id, auto, made, owner, self.model.next_tag(owner))
        self.model.runs.append(run)
        self.replays[id] = Replay.of([spec.key for spec in specs])
        return run

    @invariant()
    def the_clock_decides_nothing(self) -> None:
        later = "now() + interval '1 h'"
        with transaction():
            execute(f"UPDATE stages SET available_at = {later} WHERE status = 'queued' AND available_at > now()")
            execute(f"UPDATE stages SET lease_expires_at = {later} WHERE lease_expires_at > now()")
            execute(f"UPDATE providers SET paused_until = {later} WHERE paused_until > now()")

    @invariant()
    def the_rows_are_as_the_model_says(self) -> None:
        for run in self.model.runs:
            with transaction():
                facts = row(
                    "SELECT status, start_tag AS tag, created_by AS owner FROM runs WHERE id = %(id)s", id=run.id
                )
                stages = rows(
                    """
                    SELECT s.key, s.status, s.attempt, s.failures, s.rescues, s.releases, s.feedback,
                           s.lease_token AS token,
                           CASE status WHEN 'queued' THEN available_at > now()
                                       WHEN 'running' THEN lease_expires_at <= now() ELSE false END AS late,
                           (SELECT coalesce(array_agg(a.sha256 ORDER BY version), '{}') FROM artifacts a
                             WHERE a.stage_id = s.id) AS digests,
                           (SELECT coalesce(array_agg(a.version ORDER BY version), '{}') FROM artifacts a
                             WHERE a.stage_id = s.id) AS versions
                      FROM stages s WHERE run_id = %(id)s ORDER BY position
                    """,
                    id=run.id,
                )
            assert facts == {"status": run.status, "tag": run.tag, "owner": run.owner}
            for stage, expected in zip(stages, run.stages, strict=True):
                versions = stage.pop("versions")
                assert versions == list(range(1, len(versions) + 1))
                assert stage == {name: getattr(expected, name) for name in stage}

    @invariant()
    def the_provider_is_as_the_model_says(self) -> None:
        with transaction():
            found = row("SELECT * FROM providers WHERE name = %(name)s", name=self.name)
        expected = self.model.provider
        assert found is not None
        paused = found["paused_at"] and ("person" if found["paused_until"] is None else "while")
        assert (paused, found["consecutive_failures"], found["pauses"]) == (
            expected.paused,
            expected.consecutive,
            expected.pauses,
        )

    @invariant()
    def the_timeline_tells_every_step(self) -> None:
        with transaction():
            new = rows(
                "SELECT id, run_id, type, stage, data FROM events WHERE id > %(id)s ORDER BY id", id=self.last_event
            )
        for event in new:
            self.last_event = event.pop("id")
            self.replays[event.pop("run_id")].apply(**event)
        for run in self.model.runs:
            replay = self.replays[run.id]
            assert (replay.run, list(replay.stages.values())) == (run.status, [stage.status for stage in run.stages])
            for stage in run.stages:
                assert replay.completions.get(stage.key, 0) == stage.completions

    @invariant()
    def an_open_run_has_exactly_one_active_stage(self) -> None:
        for run in self.model.runs:
            with transaction():
                statuses = [s["status"] for s in rows("SELECT status FROM stages WHERE run_id = %(id)s", id=run.id)]
            active = sum(status in ACTIVE for status in statuses)
            assert active == (run.status in ("queued", "running", "waiting_approval"))


def digest_of(text: str) -> str:
    """Return a text's sha256 as the artifacts table stores it."""
    return hashlib.sha256(text.encode()).hexdigest()


def outcome_of(act: Callable[[], Any]) -> Any:
    """Return the operation's result, or the type of the error by which it refused."""
    try:
        return act()
    except (Conflict, NotFound) as refusal:
        return type(refusal)
