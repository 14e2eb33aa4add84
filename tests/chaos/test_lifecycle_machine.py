"""Any sequence of operations on any runs does what the model says, writes what it tells, and nothing else."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import replace
from typing import Any, ClassVar, TypeVar
from uuid import UUID, uuid4

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from tests.chaos.lifecycle_model import ACTIVE, Model, ModelProvider, ModelRun, ModelStage
from tests.db.timeline import TABLES, Replay
from vm_webapp.db.pool import execute, row, rows, transaction
from vm_webapp.errors import Conflict, NotFound
from vm_webapp.llm.base import Completion
from vm_webapp.runs import lifecycle, providers
from vm_webapp.runs.leases import renew_leases
from vm_webapp.runs.lifecycle import Claim, Claimant, DraftChanged, NewRun
from vm_webapp.runs.states import Failure
from vm_webapp.workflows.loader import load_catalog
from vm_webapp.workflows.model import RetryPolicy

MAX_FAILURES = 3
# A template says what the stages ask; times are so long that the clock never decides, only the rules do.
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
FAILURES = {
    "retryable": Failure("llm_broken_stream", "cut off", permanent=False),
    "permanent": Failure("llm_refused", "HTTP 400", permanent=True),
    "overload": Failure("llm_overloaded", "HTTP 503", permanent=False, overload=True),
    "revoked": Failure("llm_unauthorized", "HTTP 401", permanent=True, pauses_provider=True),
}
WORKER = uuid4()
PICK = st.integers(0, 999)
RARELY = st.sampled_from([False, False, False, True])
CAPS = st.sampled_from([None, None, 1, 2])
# A canceled run is final, so no stage of one is ever put back to work, although the table would admit it.
UNREACHABLE = {("stage", "canceled", "pending"), ("stage", "canceled", "queued")}
Thing = TypeVar("Thing")


class LifecycleMachine(RuleBasedStateMachine):
    """The real lifecycle and the model, side by side."""

    edges: ClassVar[set[tuple[str, str, str]]]

    def __init__(self) -> None:
        super().__init__()
        self.name = f"p-{uuid4()}"
        self.model = Model(MAX_FAILURES)
        self.claims: list[Claim] = []
        self.next_tokens: dict[UUID, UUID] = {}
        self.replays: dict[UUID, Replay] = {}
        self.last_event = 0
        self.documents = 0

    def teardown(self) -> None:
        with transaction():
            execute("DELETE FROM runs")
            execute("DELETE FROM providers")
            execute("UPDATE queues SET paused_at = NULL")
        for replay in self.replays.values():
            self.edges.update(replay.edges)

    @initialize(troubles=st.sampled_from([0, 0, providers.OVERLOADS_BEFORE_PAUSE - 1]))
    def begin(self, troubles: int) -> None:
        self.model.provider = ModelProvider(consecutive=troubles)
        with transaction():
            execute(
                "INSERT INTO providers (name, consecutive_failures) VALUES (%(name)s, %(n)s)",
                name=self.name,
                n=troubles,
            )
        self.create(auto=False)

    @rule(auto=st.booleans())
    @precondition(lambda self: len(self.model.runs) < 4)
    def create(self, auto: bool) -> None:
        run = lifecycle.create_run(NewRun(WORKFLOW, "a request", auto_approve=auto), actor="tests").run
        with transaction():
            stages = rows("SELECT id, key FROM stages WHERE run_id = %(id)s ORDER BY position", id=run.id)
        specs = [WORKFLOW.stage(stage["key"]) for stage in stages]
        made = [
            ModelStage(stage["id"], spec.key, spec.needs_model, spec.requires_approval)
            for stage, spec in zip(stages, specs, strict=True)
        ]
        made[0].move("queued")
        self.model.runs.append(ModelRun(run.id, auto, made))
        self.replays[run.id] = Replay.of([spec.key for spec in specs])

    @rule(pick=PICK, cap=CAPS, any_status=st.booleans())
    def claim(self, pick: int, cap: int | None, any_status: bool) -> None:
        found = _pick(self.model.stages() if any_status else self.model.stages("queued"), pick)
        if found is None:
            return
        run, stage = found
        token = uuid4()
        claim = lifecycle.claim_stage(stage.id, self._claimant(cap), token=token)
        assert (claim is not None) == self.model.claim(run, stage, cap, token)
        if claim:
            assert claim.feedback == stage.feedback
            self.claims.append(claim)

    @rule(pick=PICK, cap=CAPS, carry_on=st.booleans(), held=st.booleans())
    @precondition(lambda self: self.claims)
    def finish(self, pick: int, cap: int | None, carry_on: bool, held: bool) -> None:
        self._finish(self._some_claim(pick, held), cap, carry_on)

    @rule(pick=PICK)
    def carry_a_stage(self, pick: int) -> None:
        known = len(self.claims)
        self.claim(pick, cap=None, any_status=False)
        if len(self.claims) > known:
            self._finish(self.claims[-1], None, carry_on=False)

    def _finish(self, claim: Claim, cap: int | None, carry_on: bool) -> None:
        self.documents += 1
        text = f"# Document {self.documents}"
        next_token = self.next_tokens.setdefault(claim.token, uuid4()) if carry_on else None
        finished = lifecycle.finish_stage_if_held(
            claim, Completion(text, self.name), self._claimant(cap), next_token=next_token
        )
        holder = self.model.holder(claim.token)
        if holder is None:
            assert (finished is not None) == (claim.token in self.model.written)
            carried = self.model.holder(next_token) if finished and next_token else None
            assert (finished.next.token if finished and finished.next else None) == (next_token if carried else None)
            return
        run, stage = holder
        due = self.model.finish(claim.token, _digest(text))
        assert finished is not None
        assert finished.version == len(stage.digests)
        carried_on = bool(due and next_token and self.model.claim(run, due, cap, next_token))
        assert (finished.next.stage_id if finished.next else None) == (due.id if due and carried_on else None)
        assert finished.due_stage_id == (due.id if due and not carried_on else None)
        if finished.next:
            self.claims.append(finished.next)

    @rule(pick=PICK, kind=st.sampled_from(["permanent", "overload", "overload", *FAILURES]), held=st.booleans())
    @precondition(lambda self: self.claims)
    def fail(self, pick: int, kind: str, held: bool) -> None:
        claim = self._some_claim(pick, held)
        outcome = lifecycle.fail_attempt_if_held(claim, FAILURES[kind], jitter=0.5)
        assert outcome == (self.model.fail(claim.token, FAILURES[kind]) if self.model.holder(claim.token) else None)

    @rule(pick=PICK, held=st.booleans())
    @precondition(lambda self: self.claims)
    def release(self, pick: int, held: bool) -> None:
        claim = self._some_claim(pick, held)
        holder = self.model.holder(claim.token)
        assert lifecycle.release_stage_if_held(claim) == (holder is not None)
        if holder:
            holder[1].move("queued")
            holder[1].releases += 1

    @rule(pick=PICK)
    @precondition(lambda self: self.model.stages("running"))
    def let_a_lease_end(self, pick: int) -> None:
        found = _pick(self.model.stages("running"), pick)
        assert found is not None
        found[1].late = True
        with transaction():
            execute("UPDATE stages SET lease_expires_at = now() - interval '1 s' WHERE id = %(id)s", id=found[1].id)

    @rule()
    def rescue(self) -> None:
        rescued = lifecycle.rescue_expired_leases()
        assert (set(rescued.queued), set(rescued.failed)) == self.model.rescue()

    @rule()
    @precondition(lambda self: self.model.stages("running"))
    def lose_worker_after_worker(self) -> None:
        for _, stage in self.model.stages("running")[:1]:
            stage.rescues = 5
            with transaction():
                execute("UPDATE stages SET rescues = 5 WHERE id = %(id)s", id=stage.id)

    @rule()
    @precondition(lambda self: self.claims)
    def renew(self) -> None:
        held = {stage.token for _, stage in self.model.stages("running")}
        assert renew_leases([claim.token for claim in self.claims]) == held
        for _, stage in self.model.stages("running"):
            stage.late = False

    @rule(pick=PICK, sure=RARELY)
    def cancel(self, pick: int, sure: bool) -> None:
        if not sure:
            return
        run = self.model.runs[pick % len(self.model.runs)]
        status = run.status
        outcome = _outcome(lambda: lifecycle.cancel_run_if_open(run.id, actor="ann"))
        assert outcome == (Conflict if status == "completed" else status != "canceled")
        if outcome is True:
            self.model.cancel(run)

    @rule(pick=PICK, stale=st.booleans(), edit=st.booleans(), changes=st.booleans())
    @precondition(lambda self: self.model.stages("waiting_approval"))
    def review(self, pick: int, stale: bool, edit: bool, changes: bool) -> None:
        found = _pick(self.model.stages("waiting_approval"), pick)
        assert found is not None
        run, stage = found
        digest = "0" * 64 if stale else stage.digests[-1]
        self.documents += 1
        text = f"# Edit {self.documents}" if edit else None
        if changes:
            outcome = _outcome(lambda: self._request_changes(run, stage, digest))
        else:
            outcome = _outcome(lambda: self._approve(run, stage, digest, text))
        if stale:
            assert outcome is DraftChanged
        elif changes:
            stage.start_over("queued")
            stage.feedback, run.status = "shorter", "running"
            assert outcome == stage.id
        else:
            stage.digests += [_digest(text)] if text else []
            stage.move("completed")
            due = run.advance()
            assert outcome == (due.id if due else None)

    @rule(pick=PICK)
    def review_what_does_not_wait(self, pick: int) -> None:
        others = [(run, stage) for run, stage in self.model.stages() if stage.status != "waiting_approval"]
        run, stage = others[pick % len(others)]
        digest = stage.digests[-1] if stage.digests else "0" * 64
        assert _outcome(lambda: self._approve(run, stage, digest, None)) is Conflict
        assert _outcome(lambda: self._request_changes(run, stage, digest)) is Conflict

    @rule(pick=PICK, first=st.sampled_from([None, "draft", "draft", "sheet", "final", "nothing"]))
    def retry(self, pick: int, first: str | None) -> None:
        failed = [run for run in self.model.runs if run.status == "failed"]
        run = _pick(failed, pick) or self.model.runs[pick % len(self.model.runs)]
        outcome = _outcome(lambda: lifecycle.retry_run_if_failed(run.id, from_stage=first, actor="ann"))
        if run.status != "failed":
            assert outcome is Conflict
        elif first == "nothing":
            assert outcome is NotFound
        else:
            broken = next(stage for stage in run.stages if stage.status == "failed")
            wanted = next((stage for stage in run.stages if stage.key == first), broken)
            if run.stages.index(wanted) > run.stages.index(broken):
                assert outcome is Conflict
                return
            assert outcome == wanted.id
            self.model.retry(run, wanted)

    @rule()
    def let_time_pass(self) -> None:
        for _, stage in self.model.stages("queued"):
            stage.late = False
        self.model.provider.over = self.model.provider.paused == "while"
        with transaction():
            execute("UPDATE stages SET available_at = now() WHERE status = 'queued'")
            execute("UPDATE providers SET paused_until = now() WHERE paused_until IS NOT NULL")

    @rule()
    def resume_provider(self) -> None:
        with transaction():
            assert providers.resume(self.name) == (self.model.provider.paused is not None)
        if self.model.provider.paused:
            self.model.provider.open()

    @rule(pause=RARELY)
    def pause_or_resume_the_queue(self, pause: bool) -> None:
        self.model.queue_paused = pause
        with transaction():
            execute("UPDATE queues SET paused_at = CASE WHEN %(on)s THEN now() END", on=self.model.queue_paused)

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
                status = row("SELECT status FROM runs WHERE id = %(id)s", id=run.id)
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
            assert status == {"status": run.status}
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
            told = rows(
                "SELECT id, run_id, type, stage, data FROM events WHERE id > %(id)s ORDER BY id", id=self.last_event
            )
        for event in told:
            self.last_event = event.pop("id")
            self.replays[event.pop("run_id")].tell(**event)
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

    def _claimant(self, cap: int | None) -> Claimant:
        return Claimant(WORKER, self.name, cap)

    def _some_claim(self, pick: int, held: bool) -> Claim:
        """Return a claim: one that still holds when asked for and there is one, else any that there ever was."""
        holding = [claim for claim in self.claims if self.model.holder(claim.token)]
        candidates = holding if held and holding else self.claims
        return candidates[pick % len(candidates)]

    def _approve(self, run: ModelRun, stage: ModelStage, digest: str, content: str | None) -> UUID | None:
        return lifecycle.approve_stage_if_waiting(
            run.id, stage.key, artifact_sha256=digest, content=content, note=None, actor="ann"
        ).due_stage_id

    def _request_changes(self, run: ModelRun, stage: ModelStage, digest: str) -> UUID | None:
        return lifecycle.request_changes_if_waiting(
            run.id, stage.key, artifact_sha256=digest, feedback="shorter", actor="ann"
        ).due_stage_id


def _pick(things: list[Thing], pick: int) -> Thing | None:
    return things[pick % len(things)] if things else None


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _outcome(act: Callable[[], Any]) -> Any:
    """Return what the operation returned, or the type of its refusal."""
    try:
        return act()
    except (Conflict, NotFound) as refusal:
        return type(refusal)


@pytest.mark.usefixtures("database")
@pytest.mark.timeout(3600)
def test_any_sequence_of_operations_does_what_the_model_says(full: bool) -> None:
    class Machine(LifecycleMachine):
        edges: ClassVar[set[tuple[str, str, str]]] = set()

    run_state_machine_as_test(
        Machine,
        settings=settings(
            max_examples=300 if full else 10,
            stateful_step_count=50 if full else 40,
            derandomize=not full,
            database=None,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
    every = {(what, old, new) for what, table in TABLES.items() for old, news in table.items() for new in news}
    assert Machine.edges <= every - UNREACHABLE
    if full:
        assert Machine.edges == every - UNREACHABLE
