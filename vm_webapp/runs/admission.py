"""What may be claimed: the rules that hold a due stage back, each stated once.

Whatever needs to know asks here: the query for due stages, the claim, a run's ``waiting_on``, readiness, the doctor
and the number of workers that would be of use. A further rule, such as a cap per brand, is one more line of ``RULES``.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from functools import cache
from uuid import UUID

from vm_webapp.db.pool import execute, row, rows
from vm_webapp.fleet.alive import NOBODY, Crew
from vm_webapp.runs.providers import read_provider

CALL_IN_FLIGHT = "status = 'running' AND needs_model"


def due(table: str = "stages") -> str:
    """SQL: whether a stage is queued and its time has come; ``table`` is the name of its row."""
    return f"({table}.status = 'queued' AND {table}.available_at <= clock_timestamp())"


@dataclass(frozen=True, slots=True)
class Rule:
    """Something that holds stages back.

    Its SQL has the parameters ``provider`` and ``cap`` of whoever would claim, and knows the stage as ``stages``.

    Attributes:
        kind: what ``waiting_on`` calls it.
        words: what ``waiting_on`` says, where the rule has nothing of its own to tell.
        room: SQL, how many more of the stages that it is about may be claimed now; NULL for any number.
        calls_only: it is about stages that need a model, and about no others.
        of: SQL, whose room it is, such as the brand of the stage's run; NULL where the rule is not about this stage.
            None where all stages share one room.
        lasting: for a pause: SQL, whether a person must end it, rather than time. None for a rule that is no pause.
    """

    kind: str
    words: str
    room: str
    calls_only: bool = False
    of: str | None = None
    lasting: str | None = None

    @property
    def covers(self) -> str:
        """SQL, whether it is about this stage."""
        about = ["stages.needs_model"] * self.calls_only + [f"{self.of} IS NOT NULL"] * (self.of is not None)
        return " AND ".join(about) or "true"

    @property
    def holds(self) -> str:
        """SQL, whether it holds this stage back."""
        return f"({self.covers} AND coalesce({self.room}, 1) <= 0)"

    @property
    def room_for_more_workers(self) -> str:
        """SQL, as ``room``; a pause that time will end is no reason to have fewer workers."""
        return self.room if self.lasting is None else f"CASE WHEN {self.lasting} THEN 0 END"


_QUEUE_PAUSED = "EXISTS (SELECT 1 FROM queues WHERE name = 'stages' AND paused_at IS NOT NULL)"
_PROVIDER_PAUSED = "EXISTS (SELECT 1 FROM providers WHERE name = %(provider)s AND paused_at IS NOT NULL"

RULES: tuple[Rule, ...] = (
    Rule(
        "queue_paused",
        "an operator has paused the queue",
        room=f"CASE WHEN {_QUEUE_PAUSED} THEN 0 END",
        lasting=_QUEUE_PAUSED,
    ),
    # A pause whose time is over lets one stage through, the probe, until that one's lease has ended.
    Rule(
        "provider_paused",
        "the model's provider is paused",
        room="""
        (SELECT CASE WHEN paused_until <= clock_timestamp()
                          AND NOT EXISTS (SELECT 1 FROM stages held WHERE held.lease_token = probe_token)
                     THEN 1 ELSE 0 END
           FROM providers WHERE name = %(provider)s AND paused_at IS NOT NULL)
        """,
        calls_only=True,
        lasting=f"{_PROVIDER_PAUSED} AND paused_until IS NULL)",
    ),
    # The probe of a paused provider is let through whatever the cap says: nothing else is.
    Rule(
        "model_limit",
        "as many model calls are in flight as are allowed",
        room=f"""
        CASE WHEN %(cap)s IS NOT NULL AND NOT {_PROVIDER_PAUSED})
             THEN %(cap)s - (SELECT count(*) FROM stages calls WHERE {CALL_IN_FLIGHT} AND provider = %(provider)s) END
        """,
        calls_only=True,
    ),
)


def words_of(kind: str) -> str:
    """Return what ``waiting_on`` says of a rule."""
    return next(rule.words for rule in RULES if rule.kind == kind)


def admitted() -> str:
    """SQL: this stage may be claimed now."""
    return _admitted(RULES)


def admitted_by_its_owner() -> str:
    """SQL: this stage may be claimed now, as far as that is a matter of whose it is; ``room`` tells the rest."""
    return _admitted(tuple(rule for rule in RULES if rule.of is not None))


@cache
def _admitted(rules: tuple[Rule, ...]) -> str:
    return " AND ".join([due(), *(f"NOT {rule.holds}" for rule in rules)])


def room(at_most: str, *, calls: bool) -> str:
    """SQL: how many more stages may be claimed now, as far as the rooms go that all stages share.

    Args:
        at_most: SQL, the number that is not to be exceeded where there is room for more.
        calls: for stages that need a model; else for those that need none.
    """
    return _least(at_most, [rule.room for rule in _shared(calls=calls)])


def within_owners_rooms(order: str) -> str:
    """SQL: a column of due stages, whether this one, with those before it, fits into the room of its owner.

    Args:
        order: SQL, the order in which the stages are taken.
    """
    fits = [
        f"(NOT ({rule.covers}) OR row_number() OVER (PARTITION BY {rule.of} ORDER BY {order})"
        f" <= coalesce({rule.room}, 2147483647))"
        for rule in RULES
        if rule.of is not None
    ]
    return " AND ".join(fits) or "true"


def _shared(*, calls: bool) -> list[Rule]:
    return [rule for rule in RULES if rule.of is None and (calls or not rule.calls_only)]


def _least(at_most: str, rooms: Iterable[str]) -> str:
    return f"greatest(0, least({', '.join([at_most, *rooms])}))"


def hold_still(stage_id: UUID, provider: str | None, *, cap: int | None) -> bool:
    """Keep what the rules depend on from changing by other claims until this claim's transaction ends.

    With a cap, claims must count one after the other to keep it at every moment; without, only probes queue up. Rooms
    of an owner's own are counted one claim of that owner after the other.

    Args:
        stage_id: the stage to be claimed, which is locked.
        provider: what it calls, whose row is made where there is none; None for a stage that needs no model.
        cap: most calls of the provider in flight across all workers, None for no limit.

    Returns:
        Whether the provider is paused: a claim that is admitted all the same is its probe.
    """
    for rule in RULES:
        if rule.of is not None:
            execute(
                f"SELECT pg_advisory_xact_lock(hashtextextended('{rule.kind} ' || {rule.of}, 0))"
                f" FROM stages WHERE id = %(id)s AND {rule.covers}",
                id=stage_id,
                provider=provider,
                cap=cap,
            )
    if provider is None:
        return False
    found = read_provider(provider, lock=cap is not None)
    if found["paused_at"] is not None and cap is None:
        found = read_provider(provider, lock=True)
    return found["paused_at"] is not None


def read_holds(run_ids: Collection[UUID], crews: Collection[Crew]) -> dict[UUID, str]:
    """Return by which rule the due stage of a run is held back, inside the current transaction.

    Args:
        run_ids: the runs.
        crews: the working fleet; a stage that any of them may claim is not held back.

    Returns:
        The run's id → the rule's kind, for runs whose due stage is held back.
    """
    kinds = " ".join(f"WHEN {rule.holds} THEN {rule.kind!r}" for rule in RULES)
    holds: dict[UUID, str] = {}
    admitted_runs: set[UUID] = set()
    for crew in crews or [NOBODY]:
        found = rows(
            f"SELECT run_id, CASE {kinds} END AS kind FROM stages WHERE run_id = ANY(%(run_ids)s::uuid[]) AND {due()}",
            run_ids=list(run_ids),
            provider=crew.provider,
            cap=crew.cap,
        )
        admitted_runs |= {each["run_id"] for each in found if each["kind"] is None}
        for each in found:
            holds.setdefault(each["run_id"], each["kind"])
    return {run_id: kind for run_id, kind in holds.items() if run_id not in admitted_runs}


@dataclass(frozen=True, slots=True)
class Demand:
    """What more workers could do.

    Attributes:
        claimable: due stages that may be claimed now, or as soon as a pause is over that time will end.
        stopped: whether a person must act before stages that need a model, or any, are claimed again.
    """

    claimable: int
    stopped: bool


def read_demand(crews: Iterable[Crew]) -> Demand:
    """Count what the rules leave to more workers, inside the current transaction.

    Args:
        crews: whose workers would be more, one crew at least; the one that could claim the most counts.
    """
    demands = [_demand_of(crew) for crew in crews]
    return Demand(max(each.claimable for each in demands), all(each.stopped for each in demands))


def _demand_of(crew: Crew) -> Demand:
    rooms = {calls: [rule.room_for_more_workers for rule in _shared(calls=calls)] for calls in (True, False)}
    lasting = [f"({rule.lasting})" for rule in RULES if rule.lasting is not None]
    found = row(
        f"""
        SELECT ({_least("calls", rooms[True])} + {_least("others", rooms[False])})::int AS claimable,
               {" OR ".join(lasting)} AS stopped
          FROM (SELECT count(*) FILTER (WHERE needs_model AND fits) AS calls,
                       count(*) FILTER (WHERE NOT needs_model AND fits) AS others
                  FROM (SELECT needs_model, {within_owners_rooms("priority, run_id")} AS fits
                          FROM stages WHERE {due()}) each_stage) due
        """,
        provider=crew.provider,
        cap=crew.cap,
    )
    assert found is not None
    return Demand(found["claimable"], found["stopped"])
