"""Why a run is not moving, and what would move it: from the same facts as readiness and as a claim's guards."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from vm_webapp.db.pool import row, rows
from vm_webapp.fleet.heartbeats import FRESH_SECONDS
from vm_webapp.runs.records import WaitingOn

MOST_COUNTED = 1000


@dataclass(frozen=True, slots=True)
class QueuedStage:
    """A stage that waits in the queue.

    Attributes:
        error: message of the last failure of this stage, None where it has not failed.
        due: whether its time has come.
    """

    run_id: UUID
    title: str
    needs_model: bool
    queued_at: datetime
    available_at: datetime
    error: str | None
    due: bool


@dataclass(frozen=True, slots=True)
class Pause:
    """A provider that is not called for now. ``until`` is None where a person must act."""

    since: datetime
    until: datetime | None
    reason: str


@dataclass(frozen=True, slots=True)
class QueueFacts:
    """What decides whether a stage that is due will be taken.

    Attributes:
        working: workers that are alive and take work.
        alive: workers that are alive in any state.
        queue_paused_at: since when nothing is claimed, or None.
        pauses: paused providers by name.
        providers: what the working workers call.
        full: providers at whose cap calls are in flight.
        ahead: number of due stages before that of a run, for the first thousand of the queue.
    """

    working: int
    alive: int
    queue_paused_at: datetime | None
    pauses: Mapping[str, Pause]
    providers: frozenset[str]
    full: frozenset[str]
    ahead: Mapping[UUID, int]


def why_queued(stage: QueuedStage, facts: QueueFacts) -> WaitingOn:
    """Decide what a queued stage waits for: the thing that has to change first."""
    if not stage.due:
        reason = f": {stage.error}" if stage.error else ""
        return WaitingOn("retry", f"{stage.title} will be tried again{reason}", stage.queued_at, stage.available_at)
    if facts.queue_paused_at is not None:
        return WaitingOn("queue_paused", "an operator has paused the queue", facts.queue_paused_at)
    if not facts.working:
        detail = "every worker is starting or draining" if facts.alive else "no worker is alive"
        return WaitingOn("no_worker", detail, stage.available_at)
    if stage.needs_model:
        for name in sorted(facts.providers & facts.pauses.keys()):
            pause = facts.pauses[name]
            who = "until an operator resumes it" if pause.until is None else "and is tried again by itself"
            return WaitingOn("provider_paused", f"{name} is paused {who}: {pause.reason}", pause.since, pause.until)
        if facts.full and facts.providers <= facts.full:
            return WaitingOn("model_limit", "as many model calls are in flight as are allowed", stage.available_at)
    ahead = facts.ahead.get(stage.run_id)
    place = f"more than {MOST_COUNTED}" if ahead is None else str(ahead)
    return WaitingOn("queue", f"queued behind {place} others", stage.available_at)


def read_queue_facts(run_ids: Iterable[UUID]) -> QueueFacts:
    """Read the facts inside the current transaction, in the same few statements for one run or for a page of them."""
    workers = rows(
        """
        SELECT state, provider, llm_cap FROM worker_heartbeats
         WHERE state <> 'stopped' AND last_tick_at > clock_timestamp() - %(fresh)s * interval '1 second'
        """,
        fresh=FRESH_SECONDS,
    )
    working = [worker for worker in workers if worker["state"] == "working"]
    queue = row("SELECT paused_at FROM queues WHERE name = 'stages'")
    paused = rows("SELECT name, paused_at, paused_until, reason FROM providers WHERE paused_at IS NOT NULL")
    caps = {worker["provider"]: worker["llm_cap"] for worker in working if worker["llm_cap"] is not None}
    return QueueFacts(
        working=len(working),
        alive=len(workers),
        queue_paused_at=queue["paused_at"] if queue else None,
        pauses={
            each["name"]: Pause(each["paused_at"], each["paused_until"], (each["reason"] or {}).get("message", ""))
            for each in paused
        },
        providers=frozenset(worker["provider"] for worker in working),
        full=frozenset(name for name, cap in caps.items() if _in_flight(name) >= cap),
        ahead=_places(run_ids),
    )


def _in_flight(provider: str) -> int:
    counted = row(
        "SELECT count(*) AS n FROM stages WHERE status = 'running' AND needs_model AND provider = %(provider)s",
        provider=provider,
    )
    assert counted is not None
    return int(counted["n"])


def _places(run_ids: Iterable[UUID]) -> dict[UUID, int]:
    found = rows(
        """
        SELECT run_id, place FROM (
               SELECT run_id, row_number() OVER (ORDER BY priority, run_id) - 1 AS place FROM (
                      SELECT run_id, priority FROM stages
                       WHERE status = 'queued' AND available_at <= clock_timestamp()
                       ORDER BY priority, run_id LIMIT %(most)s + 1) first) numbered
         WHERE run_id = ANY(%(run_ids)s::uuid[])
        """,
        most=MOST_COUNTED,
        run_ids=list(run_ids),
    )
    return {each["run_id"]: each["place"] for each in found}
