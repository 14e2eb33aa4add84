"""The statements that requests, workers and polls execute all the time, each as the product itself executes it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID, uuid4

from benchmarks.explained import Explained, explaining
from benchmarks.history import PROVIDER
from benchmarks.instant_model import TEXT
from tests.support.runs import CATALOG, lost_hints, read
from vm_webapp.access.actor import Actor
from vm_webapp.execution.leases import renew_leases
from vm_webapp.llm.base import Completion
from vm_webapp.ops.queue_control import read_queue
from vm_webapp.runs import lifecycle, queries
from vm_webapp.runs.due import find_due
from vm_webapp.runs.lifecycle import Claimant, NewRun
from vm_webapp.runs.queries import RunFilter

CLAIMED = 8
HELD = 32
PAGE = 50
CREATE, CLAIM, FINISH = "POST /runs", f"claim of {CLAIMED} stages", "end of a stage, claim of the next"
RENEW = f"renewal of {HELD} leases"


@dataclass(frozen=True, slots=True)
class Middle:
    """A run from the middle of the history."""

    id: UUID
    created_at: datetime


def explain_hot_statements() -> dict[str, Explained]:
    """Explain them on the open pool, whose database has a history and a queue; return them by name."""
    worker, middle = Claimant(uuid4(), PROVIDER), _middle()
    with lost_hints():
        held = lifecycle.claim_due_stages(worker, [uuid4() for _ in range(HELD)]).claims
        position = (middle.created_at, middle.id)
        completion = Completion(TEXT, PROVIDER, "instant")
        calls: dict[str, Callable[[], object]] = {
            "lookup of expired leases": lifecycle.rescue_expired_leases,
            RENEW: lambda: renew_leases({claim.token: 600.0 for claim in held}),
            FINISH: lambda: lifecycle.finish_stage_if_held(held[0], completion, worker, next_token=uuid4()),
            CLAIM: lambda: lifecycle.claim_due_stages(worker, [uuid4() for _ in range(CLAIMED)]),
            "poll for due stages": lambda: find_due(PROVIDER, HELD, cap=None),
            CREATE: lambda: lifecycle.create_run(new_run(), actor=Actor("benchmark")),
            f"GET /runs, the newest {PAGE}": lambda: queries.list_runs(RunFilter(), limit=PAGE, after=None),
            f"GET /runs, {PAGE} from the middle": lambda: queries.list_runs(RunFilter(), limit=PAGE, after=position),
            f"GET /runs?status=completed, {PAGE} from the middle": lambda: queries.list_runs(
                RunFilter(status="completed"), limit=PAGE, after=position
            ),
            "GET /runs/{id}": lambda: queries.get_run(middle.id),
            "GET /runs/{id}/events, after one": lambda: queries.list_events(middle.id, after=_first(middle), limit=200),
            "GET /queue": read_queue,
        }
        return {name: each for call, act in calls.items() for name, each in _explained(call, act).items()}


def _explained(call: str, act: Callable[[], object]) -> dict[str, Explained]:
    with explaining() as found:
        act()
    if len(found) == 1:
        return {call: found[0]}
    names: dict[str, Explained] = {}
    for each in found:
        name, number = f"{call}: {each.tables}", 1
        while (numbered := name if number == 1 else f"{name} ({number})") in names:
            number += 1  # a call may read the same tables several times
        names[numbered] = each
    return names


def new_run() -> NewRun:
    """Return a run of three stages, to be created."""
    return NewRun(CATALOG.get("plan_90d"), "A plan for a bakery that delivers by bicycle", auto_approve=True)


def _middle() -> Middle:
    (found,) = read(
        """
        SELECT id, created_at FROM runs WHERE created_at >= (
            SELECT min(created_at) + (max(created_at) - min(created_at)) / 2 FROM runs WHERE finished_at IS NOT NULL)
         ORDER BY created_at LIMIT 1
        """
    )
    return Middle(**found)


def _first(middle: Middle) -> int:
    (found,) = read("SELECT min(id) AS id FROM events WHERE run_id = %(run)s", run=middle.id)
    return int(found["id"])
