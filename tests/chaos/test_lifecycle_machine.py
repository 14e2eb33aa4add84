"""Any sequence of operations on any runs has exactly the effects and events that the model predicts."""

from __future__ import annotations

from typing import ClassVar, TypeVar
from uuid import UUID, uuid4

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule, run_state_machine_as_test

from tests.chaos.lifecycle_comparison import LifecycleComparison, digest_of, outcome_of
from tests.chaos.lifecycle_model import ModelRun, ModelStage
from tests.db.timeline import TABLES
from tests.support.runs import read
from vm_webapp.access.actor import Actor
from vm_webapp.db.pool import execute, transaction
from vm_webapp.errors import Conflict, NotFound
from vm_webapp.execution.leases import renew_leases
from vm_webapp.llm.base import Completion
from vm_webapp.runs import lifecycle, providers
from vm_webapp.runs.lifecycle import Claim, Claimant, DraftChanged
from vm_webapp.runs.states import Failure

FAILURES = {
    "retryable": Failure("llm_broken_stream", "cut off", permanent=False),
    "permanent": Failure("llm_refused", "HTTP 400", permanent=True),
    "overload": Failure("llm_overloaded", "HTTP 503", permanent=False, overload=True),
    "revoked": Failure("llm_unauthorized", "HTTP 401", permanent=True, pauses_provider=True),
}
WORKER = uuid4()
PICK = st.integers(0, 999)
RARELY = st.sampled_from([False, False, False, True])
OWNERS = st.sampled_from(["ann", "ann", "bob"])
CAPS = st.sampled_from([None, None, 1, 2])
# A canceled run is final, so its stages never leave ``canceled``, although the table of transitions allows it. Only a
# spent budget fails a queued run, and no run has one here.
UNREACHABLE = {
    ("stage", "canceled", "pending"),
    ("stage", "canceled", "queued"),
    ("run", "queued", "failed"),
    ("stage", "queued", "failed"),
}
Thing = TypeVar("Thing")


class LifecycleMachine(LifecycleComparison):
    """The operations, which hypothesis calls in any order."""

    @rule(auto=st.booleans(), owner=OWNERS)
    @precondition(lambda self: len(self.model.runs) < 4)
    def create(self, auto: bool, owner: str) -> None:
        self.make_run(auto, owner)

    @rule(pick=PICK, first=st.sampled_from(["draft", "sheet", "final"]), owner=OWNERS)
    @precondition(lambda self: len(self.model.runs) < 4)
    def fork(self, pick: int, first: str, owner: str) -> None:
        parent = self.model.runs[pick % len(self.model.runs)]
        keys = [stage.key for stage in parent.stages]
        taken = parent.stages[: keys.index(first)]
        self.due.clear()
        created = outcome_of(lambda: lifecycle.fork_run(parent.id, from_stage=first, request=None, actor=Actor(owner)))
        if any(stage.status != "completed" for stage in taken):
            assert created is Conflict
            return
        stages = self.expect_run(created.id, parent.auto, owner).stages
        for stage, source in zip(stages, taken, strict=False):
            stage.move("completed")
            stage.digests = source.digests[-1:]
        stages[len(taken)].move("queued")
        assert self.take_due() == [stages[len(taken)].id]

    @rule(pick=PICK, cap=CAPS, any_status=st.booleans())
    def claim(self, pick: int, cap: int | None, any_status: bool) -> None:
        found = _pick(self.model.stages() if any_status else self.model.stages("queued"), pick)
        if found is None:
            return
        self._claim(*found, cap)

    def _claim(self, run: ModelRun, stage: ModelStage, cap: int | None) -> None:
        token = uuid4()
        claim = lifecycle.claim_stage(stage.id, self._claimant(cap), token=token)
        assert (claim is not None) == self.model.claim(run, stage, cap, token)
        if claim:
            assert claim.feedback == stage.feedback
            self.claims.append(claim)

    @rule(cap=CAPS, slots=st.integers(1, 4))
    def claim_due_stages(self, cap: int | None, slots: int) -> None:
        queued = sorted(self.model.stages("queued"), key=lambda found: (found[0].tag, found[0].id))
        if cap is not None or self.model.provider.paused:
            queued.sort(key=lambda found: found[1].needs_model)  # calls are claimed last, under the provider's lock
        ours = {stage.id for _, stage in queued}
        of_other_examples = {each["id"] for each in read("SELECT id FROM stages WHERE status = 'queued'")} - ours
        tokens = [uuid4() for _ in range(slots)]
        claimed = lifecycle.claim_due_stages(self._claimant(cap), tokens, without=of_other_examples)
        expected: list[UUID] = []
        for run, stage in queued:
            if len(expected) < slots and self.model.claim(run, stage, cap, tokens[len(expected)]):
                expected.append(stage.id)
        assert [claim.stage_id for claim in claimed.claims] == expected
        assert [claim.token for claim in claimed.claims] == tokens[: len(expected)]
        self.claims.extend(claimed.claims)

    @rule(pick=PICK, cap=CAPS, claim_next=st.booleans(), held=st.booleans())
    @precondition(lambda self: self.claims)
    def finish(self, pick: int, cap: int | None, claim_next: bool, held: bool) -> None:
        self._finish(self._some_claim(pick, held), cap, claim_next)

    @rule(pick=PICK)
    def move_a_run_on(self, pick: int) -> None:
        """Claim, finish or approve the next stage. Without this, few random examples would get far into a run."""
        found = _pick(self.model.stages("queued", "waiting_approval"), pick)
        if found is None:
            return
        run, stage = found
        if stage.status == "waiting_approval":
            self._review(run, stage, stage.digests[-1], changes=False, text=None)
            return
        known = len(self.claims)
        self._claim(run, stage, cap=None)
        if len(self.claims) > known:
            self._finish(self.claims[-1], None, claim_next=False)

    def _finish(self, claim: Claim, cap: int | None, claim_next: bool) -> None:
        self.texts += 1
        text = f"# Document {self.texts}"
        next_token = self.next_tokens.setdefault(claim.token, uuid4()) if claim_next else None
        self.due.clear()
        finished = lifecycle.finish_stage_if_held(
            claim, Completion(text, self.name), self._claimant(cap), next_token=next_token
        )
        holder = self.model.holder(claim.token)
        if holder is None:
            assert (finished is not None) == (claim.token in self.model.written)
            held_next = self.model.holder(next_token) if finished and next_token else None
            assert (finished.next.token if finished and finished.next else None) == (next_token if held_next else None)
            return
        run, stage = holder
        due = self.model.finish(claim.token, digest_of(text))
        assert finished is not None
        assert finished.version == len(stage.digests)
        claimed = bool(due and next_token and self.model.claim(run, due, cap, next_token))
        assert (finished.next.stage_id if finished.next else None) == (due.id if due and claimed else None)
        assert self.take_due() == ([due.id] if due and not claimed else [])
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
    @precondition(lambda self: self.model.stages("running"))
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
        assert renew_leases({claim.token: 0.0 for claim in self.claims}) == held
        for _, stage in self.model.stages("running"):
            stage.late = False

    @rule(pick=PICK, sure=RARELY)
    def cancel(self, pick: int, sure: bool) -> None:
        if not sure:
            return
        run = self.model.runs[pick % len(self.model.runs)]
        status = run.status
        outcome = outcome_of(lambda: lifecycle.cancel_run_if_open(run.id, actor=Actor("ann")))
        assert outcome == (Conflict if status == "completed" else status != "canceled")
        if outcome is True:
            self.model.cancel(run)

    @rule(pick=PICK, stale=st.booleans(), edit=st.booleans(), changes=st.booleans())
    @precondition(lambda self: self.model.stages("waiting_approval"))
    def review(self, pick: int, stale: bool, edit: bool, changes: bool) -> None:
        found = _pick(self.model.stages("waiting_approval"), pick)
        assert found is not None
        run, stage = found
        self.texts += 1
        text = f"# Edit {self.texts}" if edit else None
        self._review(run, stage, "0" * 64 if stale else stage.digests[-1], changes, text)

    def _review(self, run: ModelRun, stage: ModelStage, digest: str, changes: bool, text: str | None) -> None:
        if changes:
            outcome = outcome_of(lambda: self._request_changes(run, stage, digest))
        else:
            outcome = outcome_of(lambda: self._approve(run, stage, digest, text))
        if digest != stage.digests[-1]:
            assert outcome is DraftChanged
        elif changes:
            stage.start_over("queued")
            stage.feedback, run.status = "shorter", "running"
            assert outcome == stage.id
        else:
            stage.digests += [digest_of(text)] if text else []
            stage.move("completed")
            due = run.advance()
            assert outcome == (due.id if due else None)

    @rule(pick=PICK)
    def review_what_does_not_wait(self, pick: int) -> None:
        others = [(run, stage) for run, stage in self.model.stages() if stage.status != "waiting_approval"]
        run, stage = others[pick % len(others)]
        digest = stage.digests[-1] if stage.digests else "0" * 64
        assert outcome_of(lambda: self._approve(run, stage, digest, None)) is Conflict
        assert outcome_of(lambda: self._request_changes(run, stage, digest)) is Conflict

    @rule(pick=PICK, first=st.sampled_from([None, "draft", "draft", "sheet", "final", "nothing"]))
    def retry(self, pick: int, first: str | None) -> None:
        failed = [run for run in self.model.runs if run.status == "failed"]
        run = _pick(failed, pick) or self.model.runs[pick % len(self.model.runs)]
        outcome = outcome_of(lambda: self._retry(run, first))
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

    @rule(pick=PICK, first=st.sampled_from(["draft", "draft", "sheet", None]))
    @precondition(lambda self: any(stage is not run.stages[0] for run, stage in self.model.stages("queued")))
    def fail_a_later_stage_and_begin_before_it_or_cancel(self, pick: int, first: str | None) -> None:
        later = [(run, stage) for run, stage in self.model.stages("queued") if stage is not run.stages[0]]
        run, stage = later[pick % len(later)]
        claim = lifecycle.claim_stage(stage.id, self._claimant(None), token=(token := uuid4()))
        assert (claim is not None) == self.model.claim(run, stage, None, token)
        if claim is None:
            return
        self.claims.append(claim)
        failed = lifecycle.fail_attempt_if_held(claim, FAILURES["permanent"], jitter=0.5)
        assert failed == self.model.fail(token, FAILURES["permanent"]) == "failed"
        if first is None:
            assert lifecycle.cancel_run_if_open(run.id, actor=Actor("ann"))
            self.model.cancel(run)
            return
        wanted = next(each for each in run.stages if each.key == first)
        assert self._retry(run, first) == wanted.id
        self.model.retry(run, wanted)

    @rule()
    @precondition(lambda self: self.model.provider.paused or any(s.late for _, s in self.model.stages("queued")))
    def let_time_pass(self) -> None:
        for _, stage in self.model.stages("queued"):
            stage.late = False
        self.model.provider.over = self.model.provider.paused == "while"
        with transaction():
            execute("UPDATE stages SET available_at = now() WHERE status = 'queued'")
            execute("UPDATE providers SET paused_until = now() WHERE paused_until IS NOT NULL")

    @rule(sure=RARELY)
    @precondition(lambda self: self.model.provider.paused)
    def resume_provider(self, sure: bool) -> None:
        if not sure:
            return
        with transaction():
            assert providers.resume(self.name) == (self.model.provider.paused is not None)
        if self.model.provider.paused:
            self.model.provider.resume()

    @rule(pause=RARELY)
    def pause_or_resume_the_queue(self, pause: bool) -> None:
        self.model.queue_paused = pause and not self.model.queue_paused
        with transaction():
            execute("UPDATE queues SET paused_at = CASE WHEN %(on)s THEN now() END", on=self.model.queue_paused)

    def _claimant(self, cap: int | None) -> Claimant:
        return Claimant(WORKER, self.name, cap)

    def _some_claim(self, pick: int, held: bool) -> Claim:
        """Return a claim: one whose lease is still held if asked for and there is one, else any earlier one."""
        holding = [claim for claim in self.claims if self.model.holder(claim.token)]
        candidates = holding if held and holding else self.claims
        return candidates[pick % len(candidates)]

    def _retry(self, run: ModelRun, first: str | None) -> UUID | None:
        return self.due_after(lambda: lifecycle.retry_run_if_failed(run.id, from_stage=first, actor=Actor("ann")))

    def _approve(self, run: ModelRun, stage: ModelStage, digest: str, content: str | None) -> UUID | None:
        return self.due_after(
            lambda: lifecycle.approve_stage_if_waiting(
                run.id, stage.key, artifact_sha256=digest, content=content, note=None, actor=Actor("ann")
            )
        )

    def _request_changes(self, run: ModelRun, stage: ModelStage, digest: str) -> UUID | None:
        return self.due_after(
            lambda: lifecycle.request_changes_if_waiting(
                run.id, stage.key, artifact_sha256=digest, feedback="shorter", actor=Actor("ann")
            )
        )


def _pick(things: list[Thing], pick: int) -> Thing | None:
    return things[pick % len(things)] if things else None


@pytest.mark.usefixtures("database")
@pytest.mark.timeout(3600)
def test_any_sequence_of_operations_does_what_the_model_says(full: bool) -> None:
    class Machine(LifecycleMachine):
        edges: ClassVar[set[tuple[str, str, str]]] = set()

    run_state_machine_as_test(
        Machine,
        settings=settings(
            max_examples=600 if full else 10,
            stateful_step_count=60 if full else 40,
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
