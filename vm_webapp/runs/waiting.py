"""Why a run waits and what would end the wait, by the same rules as readiness and the claim."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID

from vm_webapp.db.pool import Row, rows
from vm_webapp.runs.admission import BRAND_BUDGET, explanation_of, is_pause
from vm_webapp.runs.day_budgets import DayBudget, read_day_budgets
from vm_webapp.runs.pauses import NO_PAUSES, Pauses, read_pauses
from vm_webapp.runs.records import WaitingOn
from vm_webapp.runs.statements import MOST_COUNTED, read_queue_facts


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
        pauses: every pause in force, where one of them holds a stage back.
        providers: the providers that the working workers call.
        held: runs whose due stage a rule holds back, with the rule's kind.
        ahead: how many due stages come before that of a run; without those before which there are more than
            ``MOST_COUNTED``.
        day_budgets: of each run that its brand's budget holds back, that budget.
    """

    working: int
    alive: int
    pauses: Pauses
    providers: frozenset[str]
    held: Mapping[UUID, str]
    ahead: Mapping[UUID, int]
    day_budgets: Mapping[UUID, DayBudget] = field(default_factory=dict)


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
    # None also for a stage that was claimed between the statements that read it and the facts.
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
    if kind == BRAND_BUDGET and stage.run_id in facts.day_budgets:
        day = facts.day_budgets[stage.run_id]
        return WaitingOn(kind, day.detail, stage.available_at, day.until)
    # The pause may have ended since the rule was evaluated: each statement has a snapshot of its own.
    since = facts.pauses.queue.since if kind == "queue_paused" and facts.pauses.queue else stage.available_at
    return WaitingOn(kind, explanation_of(kind), since)


def read_facts(run_ids: Iterable[UUID]) -> QueueFacts:
    """Read the facts about the due stages of runs inside the current transaction, in one statement.

    Where a pause holds one of them back, a second statement reads the pauses; likewise the budgets of brands.
    """
    return facts_of(rows(read_queue_facts(), run_ids=list(run_ids)))


def facts_of(found: Sequence[Row]) -> QueueFacts:
    """Return the facts in the rows of ``read_queue_facts`` or ``create_run``; may read pauses and budgets."""
    fleet, due = found[0], [each for each in found if each["run_id"] is not None]
    held = {each["run_id"]: each["held_by"] for each in due if each["held_by"] is not None}
    over_budget = [run_id for run_id, kind in held.items() if kind == BRAND_BUDGET]
    return QueueFacts(
        working=fleet["working"],
        alive=fleet["alive"],
        pauses=read_pauses() if any(map(is_pause, held.values())) else NO_PAUSES,
        providers=frozenset(fleet["providers"]),
        held=held,
        ahead={each["run_id"]: each["ahead"] for each in due if each["ahead"] is not None},
        day_budgets=read_day_budgets(over_budget) if over_budget else {},
    )
