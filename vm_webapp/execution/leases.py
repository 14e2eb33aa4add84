"""The leases that this process holds: which are renewed, for how long, and how the call of a lost one is ended."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Literal
from uuid import UUID

from vm_webapp.db.pool import rows, transaction
from vm_webapp.runs.statements import RENEW_LEASES
from vm_webapp.runs.states import LEASE_GRACE_SECONDS, LEASE_SECONDS

WhyAbandoned = Literal["lost", "overran", "draining"]


@dataclass(eq=False)
class HeldLease:
    """One attempt's lease of its stage, as its own thread sees it.

    Attributes:
        token: the fencing token.
        deadline: monotonic time until which the attempt may work. It moves while the model sends.
        met_outage: whether the database did not respond to a write of the attempt, whose COMMIT may be unknown.
    """

    token: UUID
    deadline: float
    met_outage: bool = False
    thread: threading.Thread = field(default_factory=threading.current_thread)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _why_abandoned: WhyAbandoned | None = None
    _cancel: Callable[[], object] | None = None

    @property
    def give_up_at(self) -> float:
        """Monotonic time after which nothing keeps the lease alive, whatever its thread does."""
        return self.deadline + LEASE_GRACE_SECONDS

    def extend(self, until: float) -> None:
        """Move the deadline to a later monotonic time; the next renewal moves it in the database, too."""
        # Only the thread on which calls run moves it, and it only grows: readers on other threads need no lock.
        self.deadline = max(self.deadline, until)

    @property
    def why_abandoned(self) -> WhyAbandoned | None:
        """Why the attempt should stop: it lost the stage, its time is over, or the stage should be released."""
        return self._why_abandoned

    def on_abandon(self, cancel: Callable[[], object]) -> None:
        """Set what ends the call in flight; called at once if the lease is abandoned already."""
        # The callback is set and the reason read under one lock: an abandon() at the same moment calls it, or is seen
        # here. The call itself is made without the lock, because it may run callbacks of others.
        with self._lock:
            self._cancel = cancel
            abandoned = self._why_abandoned
        if abandoned:
            cancel()

    def abandon(self, why: WhyAbandoned) -> None:
        """End the attempt's call; its thread then finds ``why_abandoned`` set."""
        # The first reason stays: it decides whether the attempt counts as a failure (overran) or is released.
        with self._lock:
            self._why_abandoned = self._why_abandoned or why
            cancel = self._cancel
        if cancel is not None:
            cancel()

    def alive(self, now: float) -> bool:
        """Whether the lease should be renewed at the monotonic time ``now``."""
        # A thread that died without leaving its block must not keep its stage for ever; the stage is then rescued.
        return self._why_abandoned is None and now < self.give_up_at and self.thread.is_alive()


class HeldLeases:
    """Every lease that a thread of this process holds."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._held: dict[UUID, HeldLease] = {}
        self._closed = False

    def __len__(self) -> int:
        with self._lock:
            return len(self._held)

    @contextmanager
    def hold(self, token: UUID, *, timeout_seconds: float) -> Iterator[HeldLease]:
        """Hold a lease for the block, on behalf of the calling thread.

        Args:
            token: the claim's token.
            timeout_seconds: the rest of the attempt's time, after which a short grace remains to write its result.
        """
        lease = HeldLease(token, time.monotonic() + timeout_seconds)
        # Registered and checked under one lock: abandon_all() finds this lease, or this lease finds that it is too
        # late.
        with self._lock:
            self._held[token] = lease
            closed = self._closed
        if closed:
            lease.abandon("draining")
        try:
            yield lease
        finally:
            with self._lock:
                self._held.pop(token, None)

    def renew_once(self) -> tuple[UUID, ...]:
        """Renew, in one statement, exactly the leases that live threads hold; abandon those that are lost.

        A lease past its time, or of a thread that died, is abandoned without asking.

        Returns:
            The tokens that were abandoned.

        Raises:
            DatabaseUnavailable: nothing was renewed, nothing abandoned.
        """
        now = time.monotonic()
        held = self.held()
        alive = [lease for lease in held if lease.alive(now)]
        renewed = renew_leases({lease.token: lease.deadline - now for lease in alive}) if alive else frozenset()
        # An attempt may have ended since ``held`` was read. Its lease is then abandoned for nothing: its call is over.
        lost = [lease for lease in held if lease.token not in renewed and lease.why_abandoned is None]
        for lease in lost:
            lease.abandon("overran" if now >= lease.give_up_at else "lost")
        return tuple(lease.token for lease in lost)

    def abandon_all(self) -> int:
        """Abandon every lease, and each that is taken from now on; return how many there were."""
        with self._lock:
            self._closed = True
        held = self.held()
        for lease in held:
            lease.abandon("draining")
        return len(held)

    def held(self) -> list[HeldLease]:
        """Return those that are held now."""
        with self._lock:
            return list(self._held.values())


def renew_leases(seconds_left: Mapping[UUID, float]) -> frozenset[UUID]:
    """Extend the leases of these tokens, comparing the token and never the clock.

    Args:
        seconds_left: for each token the rest of its attempt's time. A stage's deadline is moved to a later time where
            this says so, and never to an earlier one.

    A stage that another transaction has locked is skipped: waiting for one would cost all others their leases.

    Returns:
        The tokens that still hold their stages, those of locked stages included.
    """
    # Not durable: a renewal that a crash of PostgreSQL loses is repeated a second later, long before the lease ends.
    with transaction(durable=False):
        holding = rows(
            RENEW_LEASES,
            lease=LEASE_SECONDS,
            grace=LEASE_GRACE_SECONDS,
            tokens=list(seconds_left),
            seconds_left=list(seconds_left.values()),
        )
    return frozenset(found["lease_token"] for found in holding)
