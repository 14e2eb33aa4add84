"""Whether anybody carries the stages that are due, judged by the workers' heartbeats and by what was seen before."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from vm_webapp.db.pool import Row, row, rows
from vm_webapp.fleet.alive import ALIVE, FRESH_SECONDS
from vm_webapp.runs.due import find_due
from vm_webapp.runs.pauses import Pauses

# What readiness has ten seconds for is looked at once a second, and is shown at the second look.
# Work that is due this long, with nobody having claimed anything meanwhile, is suspicious …
UNCLAIMED_SECONDS = 4
# … and must stay so: between the end of one call and the next claim, a worker has room for up to a poll interval.
CONFIRM_SECONDS = 1.5
# A deploy may stop the old worker a little before the new one works.
HANDOVER_SECONDS = 6


class Workforce:
    """The verdict on the workers of one database; it remembers what it saw.

    Args:
        clock: monotonic seconds.
        is_elsewhere: whether some worker announces itself with another database. Asked inside the transaction.
    """

    def __init__(self, clock: Callable[[], float], is_elsewhere: Callable[[], bool]) -> None:
        self._clock = clock
        self._is_elsewhere = is_elsewhere
        self._worked_at: float | None = None
        self._last_at_work: set[str] = set()
        self._unclaimed_since: float | None = None

    def check(self, reasons: list[str], pauses: Pauses) -> dict[str, Any]:
        """Look, inside the current transaction; append why nobody carries work, if so, and return the facts."""
        found = rows(
            f"""
            SELECT worker_id::text, host, pid, build, state, provider, llm_cap, slots, in_flight, last_claim_at::text,
                   {ALIVE} AS fresh
              FROM worker_heartbeats WHERE last_tick_at > clock_timestamp() - %(known)s * interval '1 second'
            """,
            known=max(FRESH_SECONDS, HANDOVER_SECONDS) + 1,
        )
        fresh = [worker for worker in found if worker["fresh"]]
        working = [worker for worker in fresh if worker["state"] == "working"]
        facts: dict[str, Any] = {"status": "ok", "alive": len(working), "workers": fresh}
        if working:
            self._worked_at = self._clock()
            self._last_at_work = {worker["worker_id"] for worker in working}
            reason = self._why_nothing_is_claimed(working)
        elif self._is_handing_over(found):
            facts["note"] = "the last worker is leaving, as in a deploy: another one is awaited"
            return facts
        else:
            reason = self._why_nobody_works(fresh)
        if reason:
            reasons.append(reason)
            facts["status"] = "down"
        elif pauses.queue is not None:
            facts["note"] = "the queue is paused: nothing is claimed until python -m vm_webapp queue resume"
        return facts

    def _is_handing_over(self, found: list[Row]) -> bool:
        """Whether those who worked a moment ago have left, or are leaving, in good order: none of them crashed."""
        if self._worked_at is None or self._clock() - self._worked_at >= HANDOVER_SECONDS:
            return False
        return self._last_at_work <= {worker["worker_id"] for worker in found if worker["state"] != "working"}

    def _why_nobody_works(self, fresh: list[Row]) -> str:
        self._unclaimed_since = None
        if fresh:
            states = ", ".join(sorted({worker["state"] for worker in fresh}))
            return f"every worker is {states}: wait for the deploy to end, or start a worker"
        if self._is_elsewhere():
            return "workers are alive, but on another database: give API and workers the same VM_DB_URL"
        if row("SELECT 1 AS found FROM worker_heartbeats LIMIT 1"):
            return f"no worker has been heard of for {FRESH_SECONDS} s: look at the worker's log and restart it"
        return "no worker has ever used this database: start one, with the same VM_DB_URL as the API"

    def _why_nothing_is_claimed(self, working: list[Row]) -> str | None:
        """Work is due, somebody has room for it, nothing stands in its way, and still nobody takes it."""
        if not _leave_work(working):
            self._unclaimed_since = None
            return None
        now = self._clock()
        if self._unclaimed_since is None:
            self._unclaimed_since = now
        if now - self._unclaimed_since < CONFIRM_SECONDS:
            return None
        return f"workers are alive, yet work that is due has not been claimed for {UNCLAIMED_SECONDS} s: restart them"


def _leave_work(working: list[Row]) -> bool:
    claimed = row(
        """
        SELECT max(last_claim_at) > clock_timestamp() - %(seconds)s * interval '1 second' AS lately
          FROM worker_heartbeats
        """,
        seconds=UNCLAIMED_SECONDS,
    )
    if claimed and claimed["lately"]:
        return False
    with_room = {(each["provider"], each["llm_cap"]) for each in working if each["in_flight"] < each["slots"]}
    return any(find_due(provider, 1, cap=cap, waited_seconds=UNCLAIMED_SECONDS).ids for provider, cap in with_room)
