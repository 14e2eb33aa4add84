"""Why a run waits and what would end the wait, by the same rules as readiness and the claim."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from peewee import SQL, Select, fn

from vm_webapp.db.compiled import param
from vm_webapp.db.models import Stage
from vm_webapp.db.pool import database, rows
from vm_webapp.db.prepared import prepared
from vm_webapp.fleet.alive import count_alive, read_worker_groups
from vm_webapp.runs.admission import due, explanation_of, read_holds
from vm_webapp.runs.pauses import Pauses, read_pauses
from vm_webapp.runs.records import WaitingOn

MOST_COUNTED = 1000

# Counted from the head of the queue by its index (stages_due), and no further than MOST_COUNTED: a listing
# costs the same however long the queue is. A window function numbers all rows at once, where a count per run would read
# the head again for each run of a page.
_S = Stage.alias("s")
_HEAD = (
    _S.select(_S.run, _S.priority)
    .where(SQL(due("s")))
    .order_by(_S.priority, _S.run)
    .limit(MOST_COUNTED + 1)
    .alias("head")
)
_ORDER = [_HEAD.c.priority, _HEAD.c.run_id]
_NUMBERED = Select([_HEAD], [_HEAD.c.run_id, (fn.row_number().over(order_by=_ORDER) - 1).alias("place")]).alias(
    "numbered"
)
# A plain ``Select`` belongs to no model, so Peewee must be given the database whose SQL dialect it writes.
_PLACES = prepared(
    Select([_NUMBERED], [_NUMBERED.c.run_id, _NUMBERED.c.place])
    .where(_NUMBERED.c.run_id == fn.ANY(param("run_ids").cast("uuid[]")))
    .bind(database)
)


@dataclass(frozen=True, slots=True)
class QueuedStage:
    """A stage with the status ``queued``.

    Attributes:
        error: message of the last failure of this stage, None where it has not failed.
        due: whether ``available_at`` has passed by the database's clock.
    """

    run_id: UUID
    title: str
    needs_model: bool
    queued_at: datetime
    available_at: datetime
    error: str | None
    due: bool


@dataclass(frozen=True, slots=True)
class QueueFacts:
    """The facts that decide whether a due stage will be claimed.

    Attributes:
        working: workers that are alive and take work.
        alive: workers that are alive in any state.
        pauses: every pause in force.
        providers: the providers that the working workers call.
        held: runs whose due stage a rule holds back, with the rule's kind.
        ahead: how many due stages come before that of a run, for the first thousand of the queue.
    """

    working: int
    alive: int
    pauses: Pauses
    providers: frozenset[str]
    held: Mapping[UUID, str]
    ahead: Mapping[UUID, int]


def why_queued(stage: QueuedStage, facts: QueueFacts) -> WaitingOn:
    """Decide what a queued stage waits for: what has to change first."""
    # In this order: a worker that is started would not help a stage that backs off or that a rule holds back.
    if not stage.due:
        reason = f": {stage.error}" if stage.error else ""
        return WaitingOn("retry", f"{stage.title} will be tried again{reason}", stage.queued_at, stage.available_at)
    held_by = facts.held.get(stage.run_id)
    if held_by is not None:
        return _why_held(held_by, stage, facts)
    if not facts.working:
        detail = "every worker is starting or draining" if facts.alive else "no worker is alive"
        return WaitingOn("no_worker", detail, stage.available_at)
    ahead = facts.ahead.get(stage.run_id)
    return WaitingOn("queue", _place(ahead), stage.available_at)


def _place(ahead: int | None) -> str:
    if ahead == 0:
        return "next in the queue: it begins as soon as a worker has a free slot"
    # None also for a stage that was claimed between two of the statements that read the facts.
    before = (
        f"more than {MOST_COUNTED} stages are" if ahead is None else f"{ahead} stage{'s are' if ahead > 1 else ' is'}"
    )
    return f"in the queue: {before} before it"


def _why_held(kind: str, stage: QueuedStage, facts: QueueFacts) -> WaitingOn:
    paused = sorted(facts.providers & facts.pauses.providers.keys())
    if kind == "provider_paused" and paused:
        pause = facts.pauses.providers[paused[0]]
        who = "until an operator resumes it" if pause.until is None else "and is tried again by itself"
        return WaitingOn(kind, f"{paused[0]} is paused {who}: {pause.reason or ''}", pause.since, pause.until)
    # The pause may have ended since the rule was evaluated: each statement has a snapshot of its own.
    since = facts.pauses.queue.since if kind == "queue_paused" and facts.pauses.queue else stage.available_at
    return WaitingOn(kind, explanation_of(kind), since)


def read_queue_facts(run_ids: Iterable[UUID]) -> QueueFacts:
    """Read the facts inside the current transaction, in the same few statements for one run or for a page of them."""
    asked = list(run_ids)
    groups = read_worker_groups()
    return QueueFacts(
        working=sum(group.workers for group in groups),
        alive=count_alive(),
        pauses=read_pauses(),
        providers=frozenset(group.provider for group in groups),
        held=read_holds(asked, groups),
        ahead=_places(asked),
    )


def _places(run_ids: list[UUID]) -> dict[UUID, int]:
    found = rows(_PLACES, run_ids=run_ids)
    return {each["run_id"]: each["place"] for each in found}
