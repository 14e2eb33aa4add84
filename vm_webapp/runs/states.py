"""The state machine as data, and its decisions as pure functions. ``docs/state_machine.md`` draws it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from vm_webapp.runs.records import RunStatus, StageStatus
from vm_webapp.workflows.model import RetryPolicy

LEASE_SECONDS = 15.0
LEASE_GRACE_SECONDS = 10.0  # how long past its deadline an attempt may still be kept alive, to write its result
MAX_RESCUES = 5  # the sixth lost lease fails the stage: a poison stage must not kill workers for ever
MAX_RETRY_AFTER_SECONDS = 300.0  # a server may ask for hours; a person who waits would rather see another try

RUN_TRANSITIONS: Mapping[RunStatus, frozenset[RunStatus]] = {
    "queued": frozenset({"running", "failed", "canceled"}),
    "running": frozenset({"waiting_approval", "completed", "failed", "canceled"}),
    "waiting_approval": frozenset({"running", "completed", "canceled"}),
    "failed": frozenset({"queued", "canceled"}),
    "completed": frozenset(),
    "canceled": frozenset(),
}

# A stage leaves completed or failed only when a person retries its failed run, or cancels that run (failed → canceled).
STAGE_TRANSITIONS: Mapping[StageStatus, frozenset[StageStatus]] = {
    "pending": frozenset({"queued", "canceled"}),
    "queued": frozenset({"running", "failed", "canceled"}),
    "running": frozenset({"completed", "waiting_approval", "queued", "failed", "canceled"}),
    "waiting_approval": frozenset({"completed", "queued", "canceled"}),
    "completed": frozenset({"pending", "queued"}),
    "failed": frozenset({"pending", "queued", "canceled"}),
    "canceled": frozenset({"pending", "queued"}),
}

# Final until a person acts: a failed run may still be retried.
FINAL_RUN_STATUSES: frozenset[str] = frozenset({"completed", "failed", "canceled"})


@dataclass(frozen=True, slots=True)
class Failure:
    """Why an attempt failed, as far as the state machine distinguishes it.

    Attributes:
        code: stable identifier, shown to people.
        message: what happened.
        permanent: another try is pointless.
        retry_after: seconds the provider asked to wait, or None.
        pauses_provider: no call of this provider can succeed until a person acts.
        overload: counts toward the provider's automatic pause.
        partial_text: what the model had written before the attempt failed; empty where it had written nothing.
        prompt_tokens: tokens that the failed call read, 0 where the server counted none.
        completion_tokens: tokens that it wrote, reasoning included, likewise.
    """

    code: str
    message: str
    permanent: bool
    retry_after: float | None = None
    pauses_provider: bool = False
    overload: bool = False
    partial_text: str = field(default="", repr=False)
    prompt_tokens: int = 0
    completion_tokens: int = 0


@dataclass(frozen=True, slots=True)
class RetryAt:
    """The stage is queued again and due after ``delay_seconds``."""

    delay_seconds: float


@dataclass(frozen=True, slots=True)
class GiveUp:
    """The stage fails, and its run with it."""


def decide_failure(failure: Failure, *, failures_before: int, policy: RetryPolicy, jitter: float) -> RetryAt | GiveUp:
    """Decide whether a stage is tried again after a failed attempt.

    Args:
        failure: what went wrong.
        failures_before: failed attempts already counted against the budget.
        policy: the workflow's retry policy.
        jitter: a random number in [0, 1), which spreads retries over the upper half of the backoff.
    """
    if failure.permanent or failures_before + 1 >= policy.max_failures:
        return GiveUp()
    return RetryAt(backoff_seconds(failures_before, policy, retry_after=failure.retry_after, jitter=jitter))


def backoff_seconds(failures_before: int, policy: RetryPolicy, *, retry_after: float | None, jitter: float) -> float:
    """Return the seconds until the next try: exponential, jittered, never sooner than the server asked."""
    # The exponent is bounded because 2.0 ** 1024 raises OverflowError. At least half of the backoff is kept, since an
    # outage makes many stages fail at once: jitter spreads their retries, but none may come too early.
    ceiling = min(policy.max_seconds, policy.base_seconds * 2.0 ** min(failures_before, 32))
    backoff = ceiling * (0.5 + 0.5 * jitter)
    return max(backoff, min(retry_after or 0.0, MAX_RETRY_AFTER_SECONDS))


def decide_rescue(*, rescues_before: int) -> RetryAt | GiveUp:
    """Decide what follows a lost lease: the stage is due again at once, unless it has lost too many."""
    return GiveUp() if rescues_before >= MAX_RESCUES else RetryAt(0.0)
