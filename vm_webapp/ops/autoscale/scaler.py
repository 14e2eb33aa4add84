"""Carries decisions on the number of workers out: one process at a time sets the number at the platform."""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from vm_webapp.db.pool import transaction
from vm_webapp.fleet.duty_leases import DutyLease
from vm_webapp.loops import Loop, noting_outages
from vm_webapp.ops.autoscale.calls import Outcome, end_call, read_ages, record_if_held
from vm_webapp.ops.autoscale.decisions import Signal, read_signal
from vm_webapp.ops.autoscale.platform import CALL_SECONDS, Platform, PlatformError, Render, Service
from vm_webapp.ops.autoscale.shapes import Limits
from vm_webapp.settings import Settings
from vm_webapp.text import shortened

log = logging.getLogger(__name__)

LEASE = "scale"
# Its own: a trial must neither keep the service from being scaled, nor decide within other limits.
DRY_RUN_LEASE = "scale.dry_run"
LEASE_SECONDS = 10.0
# Asked for so often that another process takes over less than twelve seconds after the holder's death.
SCALE_EVERY_SECONDS = 1.5
# Extended before a call, if it does not outlast the call anyway.
RENEW_BELOW_SECONDS = LEASE_SECONDS - 3.0
# Somebody may set another number by hand, or switch the platform's own autoscaling on.
READ_EVERY_SECONDS = 60.0
# How long after a call the platform may still show the number before it.
CONFIRM_SECONDS = 15.0
MOST_CALLS, CALLS_SECONDS = 6, 60.0
FIRST_BACKOFF_SECONDS, LONGEST_BACKOFF_SECONDS = 5.0, 300.0
# A decision is not expected at once where the process that decides has just started, or has just died.
STALE_SECONDS = 30.0
# The platform keeps no service at less: who wants none suspends it.
FEWEST_INSTANCES = 1
# One call at most is still under way, and the lease is not to be given up in the middle of it.
STOP_SECONDS = CALL_SECONDS + 1.0
UNKNOWN = "asked for; what became of it is not known yet"


@dataclass(frozen=True, slots=True)
class _Asked:
    """A call whose effect has not been seen yet; the platform may show the number before it until a time."""

    call: int
    wanted: int
    reason: str
    until: float


class _Stopped(Exception):
    """The process ends: the platform is asked for nothing more."""


class Scaler:
    """Sets the number while it has the lease, and asks for the lease while it has not.

    Args:
        platform: where the workers run.
        service: the platform's id of their service.
        limits: what the number keeps to; decisions are made within them while this process has the lease.
        dry_run: record and tell what would be set, and set nothing.
        holder: who this is, for people.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        platform: Platform,
        service: str,
        limits: Limits,
        *,
        dry_run: bool = False,
        holder: str | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._platform = platform
        self._service = service
        self._limits = limits
        self._dry_run = dry_run
        self._clock = clock
        self._lease = DutyLease(DRY_RUN_LEASE if dry_run else LEASE, holder, seconds=LEASE_SECONDS, clock=clock)
        self._details = {
            "service": service,
            "min": limits.min_workers,
            "max": limits.max_workers,
            "target_wait_seconds": limits.target_wait_seconds,
        }
        # When the last calls were made, whoever made them; None until the database has told.
        self._calls: deque[float] | None = None
        self._failures = 0
        self._said = ""
        self._wait_until = 0.0
        self._read: Service | None = None
        self._read_at = 0.0
        self._asked: _Asked | None = None
        self._shown: int | None = None
        self._fresh_at = 0.0
        self._stands_by = False
        self._stopped = False

    def run_once(self) -> None:
        """Set the number, if this process has the lease, a decision asks for another number and nothing forbids it.

        Raises:
            DatabaseUnavailable: nothing was set.
        """
        if not self._hold():
            return
        if self._calls is None:
            ages = read_ages()
            self._calls = deque((self._clock() - age for age in ages), maxlen=MOST_CALLS)
        if self._clock() < self._wait_until:
            return
        with transaction(durable=False):
            signal = read_signal()
        try:
            self._set(signal)
        except PlatformError as error:
            self._failed(error)
        except _Stopped:
            log.debug("autoscale.stopped")

    def stop(self) -> None:
        """Begin no further call; the one under way takes ``CALL_SECONDS`` at most. Another thread may call this."""
        self._stopped = True

    def release(self) -> None:
        """Let another process scale at once, if this one has the lease."""
        self._lease.release()

    def _hold(self) -> bool:
        before = self._lease.remaining_seconds
        if before > RENEW_BELOW_SECONDS:
            return True
        held = self._lease.hold(self._details)
        if not (held and before):
            # Another process has set the number meanwhile, or may have.
            self._read, self._asked, self._shown = None, None, None
        if not held and not self._stands_by:
            log.info("autoscale.stands_by", extra={"service": self._service})
        self._stands_by = not held
        if held and not before:
            self._fresh_at = self._clock()
            self._calls = None
        return held

    def _set(self, signal: Signal) -> None:
        before = self._read_if_due(signal.desired_workers)
        if self._asked is not None and not self._confirm(self._asked, before):
            return
        if before.scales_itself:
            self._refuse(signal, before)
        elif signal.stale:
            if self._clock() - self._fresh_at >= STALE_SECONDS:
                self._say("there is no fresh decision on the number of workers; it stays as it is")
        else:
            self._fresh_at = self._clock()
            wanted = min(max(signal.desired_workers, self._limits.min_workers), self._limits.max_workers)
            self._set_to(max(wanted, FEWEST_INSTANCES), before.instances, signal.reason)

    def _set_to(self, wanted: int, was: int, reason: str) -> None:
        if wanted == was:
            self._settle()
        elif self._dry_run:
            if self._shown != wanted:
                self._shown = wanted
                self._record("dry_run", was, wanted, reason)
        else:
            assert self._calls is not None
            if len(self._calls) < MOST_CALLS or self._clock() - self._calls[0] >= CALLS_SECONDS:
                self._call(was, wanted, reason, self._calls)

    def _call(self, was: int, wanted: int, reason: str, calls: deque[float]) -> None:
        # 1. It is recorded, if the lease is held: a process that was frozen meanwhile ends here.
        # 2. It is begun with more of the lease left than it can take, or in the next turn: another process could have
        #    the lease before its end.
        # 3. The number is read back.
        self._check_stopped()
        call = record_if_held(self._lease.name, self._lease.token, self._service, was, wanted, "failed", UNKNOWN)
        if call is None:
            return
        until = self._clock() + self._lease.remaining_seconds - CALL_SECONDS
        if until <= self._clock():
            end_call(call, "failed", "not asked for: the lease would have ended before the call")
            return
        calls.append(self._clock())
        try:
            self._platform.scale(wanted, until=until)
        except PlatformError as error:
            # It may have been set all the same: the next reading tells.
            self._read = None
            self._end(call, "failed", wanted, str(error))
            raise
        self._read = None
        self._asked = _Asked(call, wanted, reason, self._clock() + CONFIRM_SECONDS)
        self._confirm(self._asked, self._read_if_due(wanted))

    def _confirm(self, asked: _Asked, found: Service) -> bool:
        """Compare the number with the one that was asked for; return False while the platform may still follow."""
        if found.instances == asked.wanted:
            self._asked = None
            self._end(asked.call, "scaled", asked.wanted, asked.reason)
            self._settle()
            return True
        if self._clock() < asked.until:
            self._read = None  # look again in the next turn
            return False
        self._asked = None
        detail = f"Render accepted {asked.wanted} and keeps {found.instances}"
        self._end(asked.call, "differs", asked.wanted, detail)
        raise PlatformError(detail)

    def _read_if_due(self, wanted: int) -> Service:
        if self._read is None or self._clock() - self._read_at >= READ_EVERY_SECONDS:
            self._read = None
            self._check_stopped()
            try:
                self._read = self._platform.read()
            except PlatformError as error:
                if self._asked is None:
                    # Not logged, which is done once, but shown: nothing is set for as long as this goes on.
                    record_if_held(
                        self._lease.name,
                        self._lease.token,
                        self._service,
                        None,
                        wanted,
                        "failed",
                        f"not asked for: {error}",
                    )
                raise
            self._read_at = self._clock()
        return self._read

    def _check_stopped(self) -> None:
        if self._stopped:
            raise _Stopped

    def _refuse(self, signal: Signal, found: Service) -> None:
        detail = "Render's own autoscaling is on, which ignores all other numbers: switch it off for this service"
        if self._say(detail):
            self._record("refused", found.instances, signal.desired_workers, detail)
        self._read = None
        self._wait_until = self._clock() + READ_EVERY_SECONDS

    def _failed(self, error: PlatformError) -> None:
        backoff = min(FIRST_BACKOFF_SECONDS * 2**self._failures, LONGEST_BACKOFF_SECONDS)
        self._failures = min(self._failures + 1, 10)
        self._wait_until = self._clock() + max(backoff, error.retry_after or 0.0)
        self._read = None
        self._say(str(error))

    def _settle(self) -> None:
        if self._said:
            log.info("autoscale.goes_on", extra={"service": self._service})
        self._failures, self._said, self._shown = 0, "", None

    def _say(self, problem: str) -> bool:
        """Log a problem once, until it is over; return whether it was said now."""
        if problem == self._said:
            return False
        self._said = problem
        log.warning("autoscale.stands_still", extra={"service": self._service, "error": shortened(problem)})
        return True

    def _record(self, outcome: Outcome, was: int, wanted: int, detail: str) -> None:
        if record_if_held(self._lease.name, self._lease.token, self._service, was, wanted, outcome, detail) is not None:
            self._log(outcome, wanted, detail)

    def _end(self, call: int, outcome: Outcome, wanted: int, detail: str) -> None:
        self._log(outcome, wanted, detail)
        end_call(call, outcome, detail)

    def _log(self, outcome: Outcome, wanted: int, detail: str) -> None:
        level = logging.INFO if outcome in ("scaled", "dry_run") else logging.WARNING
        log.log(level, f"autoscale.{outcome}", extra={"service": self._service, "wanted": wanted, "reason": detail})


@contextmanager
def scaling(settings: Settings, limits: Limits, service: str, *, dry_run: bool = False) -> Iterator[None]:
    """Scale on a thread of its own while the block lasts.

    Args:
        settings: with the key of the platform's API.
        limits: what the number keeps to.
        service: the platform's id of the workers' service.
        dry_run: only record and tell what would be set.
    """
    assert settings.render_api_key is not None
    platform = Render(settings.render_api_key, service, url=settings.render_api_url)
    scaler = Scaler(platform, service, limits, dry_run=dry_run)
    run = noting_outages(scaler.run_once, log, "autoscale.unscaled")
    loop = Loop("scale", run, every_seconds=SCALE_EVERY_SECONDS)
    loop.start()
    try:
        yield
    finally:
        scaler.stop()
        # Both are left alone while the database hangs: the lease then ends by itself.
        if loop.stop(STOP_SECONDS):
            platform.close()
            scaler.release()
