"""Whether workers run due stages, judged by their heartbeats over the last few checks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from peewee import fn

from vm_webapp.db.compiled import NOW, SECOND, Compiled, compiled
from vm_webapp.db.models import Stage, WorkerHeartbeat
from vm_webapp.db.pool import Row, row, rows
from vm_webapp.db.together import Ask, NotRead
from vm_webapp.fleet.alive import ALIVE, FRESH_SECONDS
from vm_webapp.runs.due import find_due
from vm_webapp.runs.pauses import Pauses

# Readiness must detect within ten seconds that claiming has stopped. A check runs once a second, and the monitor
# reports a change when two checks in a row agree.
# Claiming may have stopped when a stage has been due for this long while no worker has claimed any.
UNCLAIMED_SECONDS = 4
# That must hold for this long: between the end of a call and the next claim, a slot is free for up to a poll interval.
CONFIRM_SECONDS = 1.5
# A deploy may stop the old worker a little before the new one starts to claim.
HANDOVER_SECONDS = 6


_W = WorkerHeartbeat
_KNOWN_SECONDS = max(FRESH_SECONDS, HANDOVER_SECONDS) + 1
_RECENT = compiled(
    _W.select(
        _W.worker_id.cast("text"),
        _W.host,
        _W.pid,
        _W.build,
        _W.state,
        _W.provider,
        _W.llm_cap,
        _W.slots,
        _W.in_flight,
        _W.last_claim_at.cast("text"),
        ALIVE.alias("fresh"),
    ).where(_W.last_tick_at > NOW - _KNOWN_SECONDS * SECOND)
)
_ANY = compiled(_W.select(_W.worker_id).limit(1))
_CLAIMED_LATELY = compiled(_W.select((fn.max(_W.last_claim_at) > NOW - UNCLAIMED_SECONDS * SECOND).alias("lately")))
_QUEUED_FOR_LONG = compiled(
    Stage.select(Stage.id)
    .where(Stage.status == "queued", Stage.available_at <= NOW - UNCLAIMED_SECONDS * SECOND)
    .limit(1)
)
# What ``WorkerHealth.check`` asks where workers live and nothing waits; ``read_together`` reads it.
WHERE_ALL_IS_WELL: tuple[Compiled, ...] = (_RECENT, _CLAIMED_LATELY, _QUEUED_FOR_LONG)


class WorkerHealth:
    """Judges the workers of one database by their heartbeats and by the results of earlier checks.

    Args:
        clock: monotonic seconds.
        on_another_database: returns whether some worker announces another database. Called inside the transaction.
        why_not_started: returns why the worker that ``serve`` keeps cannot start, None where that is not so.
    """

    def __init__(
        self,
        clock: Callable[[], float],
        on_another_database: Callable[[], bool],
        why_not_started: Callable[[], str | None],
    ) -> None:
        self._clock = clock
        self._on_another_database = on_another_database
        self._why_not_started = why_not_started
        self._worked_at: float | None = None
        self._last_working: set[str] = set()
        self._unclaimed_since: float | None = None

    def check(self, reasons: list[str], pauses: Pauses, ask: Ask = rows) -> dict[str, Any]:
        """Check inside the current transaction; append the reason if due stages are not run; return the facts.

        Args:
            reasons: gets the reason.
            pauses: those in force.
            ask: runs a query; one that has read ``WHERE_ALL_IS_WELL`` raises ``NotRead`` where it may not be.
        """
        found = ask(_RECENT)
        fresh = [worker for worker in found if worker["fresh"]]
        working = [worker for worker in fresh if worker["state"] == "working"]
        facts: dict[str, Any] = {"status": "ok", "alive": len(working), "workers": fresh}
        if working:
            self._worked_at = self._clock()
            self._last_working = {worker["worker_id"] for worker in working}
            reason = self._why_nothing_is_claimed(working, ask)
            # Others do the work, so it is no reason; the doctor warns.
            if not_started := self._why_not_started():
                facts["not_started"] = not_started
        elif self._is_handing_over(found):
            facts["note"] = "the last worker is leaving, as in a deploy: another one is awaited"
            return facts
        elif ask is not rows:
            raise NotRead
        else:
            reason = self._why_no_worker_works(fresh)
        if reason:
            reasons.append(reason)
            facts["status"] = "down"
        elif pauses.queue is not None:
            facts["note"] = "the queue is paused: nothing is claimed until python -m vm_webapp queue resume"
        return facts

    def _is_handing_over(self, found: list[Row]) -> bool:
        """Whether all workers that worked a moment ago have stopped or are draining, and none of them crashed."""
        if self._worked_at is None or self._clock() - self._worked_at >= HANDOVER_SECONDS:
            return False
        # The row of a worker that crashed still says ``working``.
        return self._last_working <= {worker["worker_id"] for worker in found if worker["state"] != "working"}

    def _why_no_worker_works(self, fresh: list[Row]) -> str:
        self._unclaimed_since = None
        if not_started := self._why_not_started():
            return not_started
        if fresh:
            states = ", ".join(sorted({worker["state"] for worker in fresh}))
            return f"every worker is {states}: wait for the deploy to end, or start a worker"
        if self._on_another_database():
            return "workers are alive, but on another database: give API and workers the same VM_DB_URL"
        if row(_ANY):
            return f"no worker has sent a heartbeat for {FRESH_SECONDS} s: check the worker's log and restart it"
        return "no worker has ever used this database: start one, with the same VM_DB_URL as the API"

    def _why_nothing_is_claimed(self, working: list[Row], ask: Ask) -> str | None:
        """Return the reason if workers have free slots and no rule holds due stages back, and yet none is claimed."""
        if not _leave_stages_unclaimed(working, ask):
            self._unclaimed_since = None
            return None
        now = self._clock()
        if self._unclaimed_since is None:
            self._unclaimed_since = now
        if now - self._unclaimed_since < CONFIRM_SECONDS:
            return None
        return f"workers are alive, yet work that is due has not been claimed for {UNCLAIMED_SECONDS} s: restart them"


def _leave_stages_unclaimed(working: list[Row], ask: Ask) -> bool:
    (claimed,) = ask(_CLAIMED_LATELY)
    if claimed["lately"] or not ask(_QUEUED_FOR_LONG):
        return False
    if ask is not rows:
        raise NotRead
    # The workers' own query, which leaves out stages that a pause or a cap holds back.
    free = {(each["provider"], each["llm_cap"]) for each in working if each["in_flight"] < each["slots"]}
    return any(find_due(provider, 1, cap=cap, waited_seconds=UNCLAIMED_SECONDS).ids for provider, cap in free)
