"""Reports to Judoscale how long stages wait, so that it can scale the workers.

Source of the format: judoscale 1.14 on PyPI, whose reports a test compares with these.
"""

from __future__ import annotations

import json
import logging
import os
import platform
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from peewee import DatabaseError

from vm_webapp.db.pool import transaction
from vm_webapp.endpoint import Endpoint, NotTaken
from vm_webapp.errors import DatabaseUnavailable
from vm_webapp.fleet.duty_leases import DutyLease
from vm_webapp.loops import Loop
from vm_webapp.ops.autoscale.decisions import Signal, read_signal
from vm_webapp.settings import Settings
from vm_webapp.text import shortened

log = logging.getLogger(__name__)

REPORT_SECONDS = 10.0
# Two reports: the process keeps the lease if one renewal is late.
LEASE_SECONDS = 20.0
# After each failure it waits twice as long, from one report's time up to this.
LONGEST_WAIT_SECONDS = 120.0
STOP_SECONDS = 1.0
LEASE = "judoscale"
PATH = "/v3/reports"
QUEUE = "stages"


class JudoscaleReporter:
    """Reports the queue of this database, if no other process does.

    Args:
        settings: of the process; ``judoscale_url`` must be set.
        lease: of the duty.
        clock: monotonic seconds.
        now: seconds since 1970.
    """

    def __init__(
        self,
        settings: Settings,
        lease: DutyLease,
        *,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], float] = time.time,
    ) -> None:
        assert settings.judoscale_url is not None
        self._settings = settings
        url = settings.judoscale_url.rstrip("/") + PATH
        self._endpoint = Endpoint("Judoscale", url, {"Content-Type": "application/json"})
        self._lease = lease
        self._clock = clock
        self._now = now
        self._failures = 0
        self._wait_until = 0.0

    def run_once(self) -> bool:
        """Send a report, unless another process does or a failure is being waited out; return whether it was taken."""
        try:
            # Kept while it waits as well, or each process in turn would fail and say so.
            if not self._lease.hold() or self._clock() < self._wait_until:
                return False
            with transaction(durable=False):
                signal = read_signal()
            body = report(signal, self._settings, now=self._now())
            self._endpoint.post(json.dumps(body).encode())
        except (NotTaken, DatabaseUnavailable, DatabaseError) as error:
            self._failed(error)
            return False
        if self._failures:
            log.info("judoscale.reported_again", extra={"failures": self._failures})
        self._failures = 0
        return True

    def release(self) -> None:
        """Let another process report at once."""
        self._lease.release()

    def _failed(self, error: Exception) -> None:
        self._failures += 1
        self._wait_until = self._clock() + min(LONGEST_WAIT_SECONDS, REPORT_SECONDS * 2**self._failures)
        if self._failures == 1:
            log.warning("judoscale.not_reported", extra={"error": shortened(error)})


def report(signal: Signal, settings: Settings, *, now: float) -> dict[str, Any]:
    """Return the body of a report.

    Args:
        signal: the queue's figures.
        settings: of the process.
        now: when they were read, in seconds since 1970.

    Returns:
        Each of ``metrics`` is ``[time in s, value, measurement, queue]``: ``qt`` for how many ms the oldest due stage
        has been due, ``busy`` for how many stages are running.
    """
    at = round(now)
    return {
        "container": socket.gethostname(),
        "pid": os.getpid(),
        "config": {"log_level": settings.log_level, "report_interval_seconds": int(REPORT_SECONDS)},
        "adapters": {
            "vm-webapp": {"runtime_version": platform.python_version(), "adapter_version": settings.build},
        },
        "metrics": [
            [at, round(signal.oldest_due_seconds * 1000), "qt", QUEUE],
            [at, signal.running, "busy", QUEUE],
        ],
        "metadata": {},
    }


@contextmanager
def reporting(settings: Settings) -> Iterator[None]:
    """Report to ``settings.judoscale_url``, which must be set, on a thread of its own while the block lasts.

    Args:
        settings: of the process, whose pool of database connections is open.
    """
    reporter = JudoscaleReporter(settings, DutyLease(LEASE, seconds=LEASE_SECONDS))
    loop = Loop(LEASE, reporter.run_once, every_seconds=REPORT_SECONDS)
    loop.start()
    try:
        yield
    finally:
        loop.stop(STOP_SECONDS)
        reporter.release()
