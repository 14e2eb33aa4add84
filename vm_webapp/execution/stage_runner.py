"""Runs a claimed stage to its end, and its run's next stages after it, on the calling thread.

No database connection is held while the model is called; every write at the end names the attempt's token.
"""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import CancelledError
from contextlib import contextmanager
from functools import partial
from typing import TypeVar
from uuid import UUID

from uuid_utils.compat import uuid4

from vm_webapp.errors import DatabaseUnavailable, VMError
from vm_webapp.execution.activity import Activity
from vm_webapp.execution.attempt_spans import begin_attempt
from vm_webapp.execution.claiming import facts_of, release_unbegun
from vm_webapp.execution.failures import INTERNAL_ERROR, crash_of, failure_of
from vm_webapp.execution.finishing import FinishTogether
from vm_webapp.execution.leases import HeldLease, HeldLeases
from vm_webapp.execution.measured_call import MeasuredCall
from vm_webapp.execution.metering import CallMeter
from vm_webapp.execution.mirror import ArtifactCopy
from vm_webapp.execution.mirror_writer import MirrorWriter
from vm_webapp.execution.progress import Listeners, ProgressReporter, StageProgress
from vm_webapp.execution.prompt_inputs import ReadRun, read_context
from vm_webapp.llm.base import Completion, Provider
from vm_webapp.llm.calls import CallLoop
from vm_webapp.llm.errors import LLMError, LLMTimeout
from vm_webapp.logs import logged_with
from vm_webapp.metrics import observe_claim
from vm_webapp.prices import PriceTable
from vm_webapp.runs import lifecycle
from vm_webapp.runs.lifecycle import Claim, Claimant, Finished
from vm_webapp.runs.states import LEASE_SECONDS, Failure
from vm_webapp.text import shortened
from vm_webapp.tracing.spans import Tracer, current_span, working_on
from vm_webapp.workflows.render import render_assignment

log = logging.getLogger(__name__)
Outcome = TypeVar("Outcome")

DATABASE_RETRY_SECONDS = 0.5
# Nobody renews a lease before a thread has taken the claim. After this time it may end amid the attempt.
HAND_OVER_SECONDS = LEASE_SECONDS / 2
PROMPTS_AT_ONCE = 4
LONGEST_WAIT_FOR_TURN_SECONDS = 1.0  # a prompt takes a fraction of a millisecond, one that runs away takes seconds


class AttemptAbandoned(Exception):
    """The attempt has lost its stage or should release it; nothing that it produced is written."""


class StageRunner:
    """Runs stages; one instance serves all threads of a worker process.

    Args:
        claimant: the worker for which the next stages are claimed.
        model: the provider for stages that need a model.
        template: the provider for stages that need none.
        calls: the loop on which calls run.
        leases: the leases that the worker renews.
        mirror: writes the readable copies of artifacts.
        max_call_seconds: how long a model call may take that goes on sending.
        prices: what model calls cost, None to count tokens only.
        on_progress: called with a run and a further piece of the artifact that is being written for it.
        tracer: makes a span of each attempt, None to record no traces.
    """

    def __init__(
        self,
        claimant: Claimant,
        *,
        model: Provider,
        template: Provider,
        calls: CallLoop,
        leases: HeldLeases,
        mirror: MirrorWriter,
        max_call_seconds: float = 3600.0,
        prices: PriceTable | None = None,
        on_progress: Callable[[UUID, StageProgress], Listeners | None] = lambda run_id, progress: None,
        tracer: Tracer | None = None,
    ) -> None:
        self.claimant = claimant
        self.leases = leases
        self.activity = Activity()
        self.draining = threading.Event()
        self._running = 0
        self._changed = threading.Condition()
        self._model = model
        self._template = template
        self._calls = calls
        self._mirror = mirror
        self._finishing = FinishTogether(claimant)
        self._prompt_turns = threading.Semaphore(PROMPTS_AT_ONCE)
        self._max_call_seconds = max_call_seconds
        self._prices = prices
        self._on_progress = on_progress
        self._tracer = tracer

    def run(self, claim: Claim) -> int:
        """Run a stage, then the next stages of its run, until one of them cannot be claimed.

        Args:
            claim: the stage. It is released instead if the worker is draining, or if no thread took it in time.

        Returns:
            How many stages were run.
        """
        count = 0
        with self._counted():
            following: Claim | None = claim
            if self.draining.is_set() or time.monotonic() - claim.made_at > HAND_OVER_SECONDS:
                self.release([claim])
                following = None
            read = ReadRun(claim.run_id)
            last, began = claim, time.monotonic()
            while following is not None:
                count += 1
                last = following
                run = self._run_claimed if self._tracer is None else partial(self._run_traced, self._tracer)
                try:
                    with logged_with(**facts_of(following)):
                        following = run(following, read)
                finally:
                    self.activity.count_attempt(time.monotonic() - last.made_at)
            if count:
                # One line for the stages together: each would cost as much as a part of its transaction.
                done = {"stages": count, "seconds": round(time.monotonic() - began, 3)}
                log.info("run.carried", extra=facts_of(last) | done)
        return count

    def release(self, claims: Iterable[Claim]) -> None:
        """Release stages that no thread has begun. Where that fails, their leases end soon."""
        for claim in claims:
            if release_unbegun(claim):
                self.activity.count("released")

    def wait_until_idle(self, seconds: float) -> bool:
        """Wait until no thread runs a stage; return False when the time is over before that."""
        with self._changed:
            return self._changed.wait_for(lambda: self._running == 0, seconds)

    @contextmanager
    def _counted(self) -> Iterator[None]:
        # The number of leases would not do: between one stage and the next a thread holds none.
        with self._changed:
            self._running += 1
        try:
            yield
        finally:
            with self._changed:
                self._running -= 1
                self._changed.notify_all()

    def _run_traced(self, tracer: Tracer, claim: Claim, read: ReadRun) -> Claim | None:
        with working_on(begin_attempt(tracer, claim)):
            return self._run_claimed(claim, read)

    def _run_claimed(self, claim: Claim, read: ReadRun) -> Claim | None:
        self.activity.last_claim_at = claim.claimed_at
        self.activity.count("claimed")
        observe_claim(claim.workflow.name, claim.key, claim.waited_seconds)
        completion: Completion | None = None
        meter = CallMeter(self._prices)
        with self.leases.hold(claim.token, timeout_seconds=claim.seconds_left) as lease:
            try:
                # The lease is held until the result is written and not only during the call: the write may take as long
                # as an outage of the database.
                completion = self._attempt(claim, read, lease, meter)
                finished = self._finish(claim, lease, completion, meter)
            except AttemptAbandoned:
                if lease.why_abandoned == "overran":
                    late = LLMTimeout(f"no complete response within {claim.spec.timeout_seconds:g} s")
                    self._fail(claim, lease, failure_of(late), meter)
                else:
                    self._release(claim, lease, meter)
                return None
            except VMError as error:
                self._fail(claim, lease, failure_of(error), meter)
                return None
            except Exception:
                self._log_crash(claim)
                self._fail(claim, lease, crash_of(completion), meter)
                return None
            if finished is None:
                self._note_lost(claim, lease, meter, "lost")
                log.info("attempt.lost", extra={"run_id": str(claim.run_id), "stage": claim.spec.key})
                return None
            self._note_outcome("finished")
            read.note_written(claim.spec.key, completion)
            self._copy(claim, finished, completion)
            return finished.next

    def _attempt(self, claim: Claim, read: ReadRun, lease: HeldLease, meter: CallMeter) -> Completion:
        context = self._through_outages(lease, lambda: read_context(claim, read))
        lease.met_outage = False  # a read leaves no COMMIT unknown
        if context is None:
            raise AttemptAbandoned  # the database was out of reach for as long as the lease could be kept alive
        with self._prompt_turn():
            assignment = render_assignment(claim.workflow, claim.spec, context)
        left = lease.deadline - time.monotonic()
        if left <= 0:
            raise AttemptAbandoned  # all of this took as long as the attempt may
        provider = self._model if claim.provider else self._template
        reporter = ProgressReporter(
            claim.spec.key, claim.attempt, lambda progress: self._on_progress(claim.run_id, progress)
        )
        measured = MeasuredCall(claim, meter, provider.model, assignment)

        def hear(text: str) -> None:
            measured.note_piece(text)
            if text:
                reporter.add(text)

        future = self._calls.submit(
            provider,
            assignment,
            timeout_seconds=left,
            max_seconds=self._max_call_seconds,
            on_text=hear,
            on_deadline=lease.extend,
        )
        # The pulse (the worker's maintenance loop) notices a cancel or a lost lease on a thread of its own, while this
        # one waits in result(). Canceling the future ends even a call on which nothing arrives.
        lease.on_abandon(future.cancel)
        try:
            completion = measured.wait(future)
        except CancelledError:
            raise AttemptAbandoned from None
        except LLMError as error:
            if claim.provider:
                self.activity.note_outcome(error.code, str(error))
            raise
        reporter.finish()
        if claim.provider:
            self.activity.note_outcome("ok", None)
        return completion

    @contextmanager
    def _prompt_turn(self) -> Iterator[None]:
        """Wait until few other threads make prompts, but not long."""
        # The interpreter runs one thread, and each that waits for it asks for it two hundred times a second: where
        # hundreds began at once, this took most of the CPU.
        taken = self._prompt_turns.acquire(timeout=LONGEST_WAIT_FOR_TURN_SECONDS)
        try:
            yield
        finally:
            if taken:
                self._prompt_turns.release()

    def _finish(self, claim: Claim, lease: HeldLease, completion: Completion, meter: CallMeter) -> Finished | None:
        # One token for every repetition, so that a finish whose COMMIT succeeded unseen recognises the claim that it
        # made.
        next_token = None if self.draining.is_set() else uuid4()
        usage = meter.usage()
        return self._through_outages(
            lease,
            lambda: self._finishing.finish(lifecycle.Ending(claim, completion, next_token, usage)),
        )

    def _copy(self, claim: Claim, finished: Finished, completion: Completion) -> None:
        if finished.version is not None:
            position = claim.workflow.position_of(claim.spec.key)
            copy = (claim.run_id, position, claim.key, finished.version, claim.spec.artifact_name, completion.text)
            self._mirror.put(ArtifactCopy(*copy))

    def _fail(self, claim: Claim, lease: HeldLease, failure: Failure, meter: CallMeter) -> None:
        jitter = random.random()  # noqa: S311 - spreads retries, guards nothing
        usage = meter.usage()
        try:
            outcome = self._through_outages(
                lease, lambda: lifecycle.fail_attempt_if_held(claim, failure, jitter=jitter, usage=usage)
            )
        except Exception:
            if failure.code == INTERNAL_ERROR.code:
                raise
            self._log_crash(claim)  # such as a reason that cannot be stored: at least the failure itself is
            self._fail(claim, lease, crash_of(failure), meter)
            return
        if outcome:
            self._note_outcome(outcome, error=failure.code)
        else:
            self._note_lost(claim, lease, meter, "lost", error=failure.code)
        log.warning(
            "attempt.failed",
            extra={
                "run_id": str(claim.run_id),
                "stage": claim.spec.key,
                "code": failure.code,
                "error": failure.message,
                "outcome": outcome or "lost",
            },
        )

    def _release(self, claim: Claim, lease: HeldLease, meter: CallMeter) -> None:
        """Release the stage, unless the attempt has lost it or its run was canceled."""
        usage = meter.usage()
        if self._through_outages(lease, lambda: lifecycle.release_stage_if_held(claim, usage=usage)):
            self._note_outcome("released")
        else:
            self._note_lost(claim, lease, meter, "abandoned")

    def _note_outcome(self, outcome: str, *, error: str | None = None) -> None:
        self.activity.count(outcome)
        if (span := current_span()) is not None:
            span.attributes["vm.outcome"] = outcome
            span.error = error

    def _note_lost(
        self, claim: Claim, lease: HeldLease, meter: CallMeter, outcome: str, *, error: str | None = None
    ) -> None:
        """Note an attempt that no longer holds its stage, and record what its call has used."""
        self._note_outcome(outcome, error=error)
        usage = meter.usage()
        # After an outage the attempt may itself have ended its stage, and recorded the call, in a COMMIT whose result
        # never arrived. Once and without repetition: a call may be missing, but none is counted twice.
        if usage is not None and not lease.met_outage:
            try:
                lifecycle.record_abandoned_call(claim, usage)
            except Exception as unrecorded:
                log.warning("call.unrecorded", extra=facts_of(claim) | {"error": shortened(unrecorded)})

    def _through_outages(self, lease: HeldLease, act: Callable[[], Outcome]) -> Outcome | None:
        """Repeat a read or a fenced write until the database responds, for as long as the lease could be kept alive."""
        # After that time another worker may have the stage. Trying on would be harmless, for the token would not match,
        # but would occupy this thread.
        while True:
            try:
                return act()
            except DatabaseUnavailable as error:
                lease.met_outage = True
                if time.monotonic() >= lease.give_up_at:
                    log.error("attempt.cut_off", extra={"error": str(error)})  # noqa: TRY400 - one line says it
                    return None
            time.sleep(DATABASE_RETRY_SECONDS)

    def _log_crash(self, claim: Claim) -> None:
        log.exception("attempt.crashed", extra={"run_id": str(claim.run_id), "stage": claim.spec.key})
