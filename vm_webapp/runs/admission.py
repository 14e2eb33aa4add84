"""What may be claimed: the rules that hold a due stage back, each stated once.

Whatever needs to know asks here: the query for due stages, the claim, a run's ``waiting_on``, readiness, the doctor
and the number of workers that would be of use. A further rule, such as a cap per brand, is one more line of ``RULES``.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Literal
from uuid import UUID

from vm_webapp.db.pool import row, rows
from vm_webapp.fleet.alive import Crew
from vm_webapp.runs.providers import read_provider


def due(table: str = "stages") -> str:
    """SQL: whether the time of a stage has come, that is queued; ``table`` is the name of its row."""
    return f"({table}.status = 'queued' AND {table}.available_at <= clock_timestamp())"


CALL_IN_FLIGHT = "status = 'running' AND needs_model"

Scope = Literal["queue", "model", "stage"]


@dataclass(frozen=True, slots=True)
class Rule:
    """Something that holds stages back.

    The SQL knows a row of ``stages`` by its bare column names, and the parameters ``provider`` and ``cap`` of whoever
    would claim it.

    Attributes:
        kind: what ``waiting_on`` calls it.
        words: what ``waiting_on`` says, where the rule has nothing of its own to tell.
        scope: which stages it is about: all of the queue, those that need a model, or each by a condition of its own,
            which is then asked for every candidate.
        room: SQL, how many more of these stages may be claimed now; NULL for any number.
        lasting: SQL, whether it holds them until a person acts: more workers would be of no use then.
    """

    kind: str
    words: str
    scope: Scope
    room: str
    lasting: str = "false"

    @property
    def covers(self) -> str:
        """SQL, whether it is about this stage."""
        return "needs_model" if self.scope == "model" else "true"

    @property
    def holds(self) -> str:
        """SQL, whether it holds this stage back."""
        return f"({self.covers} AND coalesce({self.room}, 1) <= 0)"


_QUEUE_PAUSED = "EXISTS (SELECT 1 FROM queues WHERE name = 'stages' AND paused_at IS NOT NULL)"

RULES = (
    Rule(
        "queue_paused",
        "an operator has paused the queue",
        "queue",
        f"CASE WHEN {_QUEUE_PAUSED} THEN 0 END",
        lasting=_QUEUE_PAUSED,
    ),
    # A pause whose time is over lets one stage through, the probe, until that one's lease has ended.
    Rule(
        "provider_paused",
        "the model's provider is paused",
        "model",
        """
        (SELECT CASE WHEN paused_until <= clock_timestamp()
                          AND NOT EXISTS (SELECT 1 FROM stages WHERE lease_token = probe_token)
                     THEN 1 ELSE 0 END
           FROM providers WHERE name = %(provider)s AND paused_at IS NOT NULL)
        """,
        lasting="EXISTS (SELECT 1 FROM providers WHERE name = %(provider)s AND paused_at IS NOT NULL"
        " AND paused_until IS NULL)",
    ),
    Rule(
        "model_limit",
        "as many model calls are in flight as are allowed",
        "model",
        f"""
        CASE WHEN %(cap)s IS NOT NULL
             THEN %(cap)s - (SELECT count(*) FROM stages WHERE {CALL_IN_FLIGHT} AND provider = %(provider)s) END
        """,
    ),
)


def _every(conditions: Iterable[str]) -> str:
    return " AND ".join(conditions)


def room(at_most: str, *scopes: Scope) -> str:
    """SQL: how many more stages may be claimed now, as far as the rules of these scopes say.

    Args:
        at_most: SQL, the number that is not to be exceeded where there is room for more.
        scopes: ``queue`` for any stage; ``queue`` and ``model`` for those that need a model.
    """
    return f"greatest(0, least({', '.join([at_most, *(rule.room for rule in RULES if rule.scope in scopes)])}))"


ADMITTED = _every([due(), *(f"NOT {rule.holds}" for rule in RULES)])
"""SQL: this stage may be claimed now."""

ADMITTED_BY_ITSELF = _every([due(), *(f"NOT {rule.holds}" for rule in RULES if rule.scope == "stage")])
"""SQL: this stage may be claimed now, as far as that is not a matter of how many are."""

WORDS = {rule.kind: rule.words for rule in RULES}
HELD_BY = f"CASE {' '.join(f'WHEN {rule.holds} THEN {rule.kind!r}' for rule in RULES)} END"
"""SQL: the kind of the first rule that holds this stage back; NULL where none does."""

HELD_FOR_GOOD = f"({' OR '.join(f'({rule.covers} AND {rule.lasting})' for rule in RULES)})"
"""SQL: whether this stage is held back until a person acts."""


@dataclass(frozen=True, slots=True)
class Pause:
    """A pause of the queue or of a provider.

    Attributes:
        since: when it began.
        until: when it ends by itself; None where a person must end it.
        by: who paused the queue.
        code: stable identifier of a provider's trouble.
        reason: why, in words; None where nobody said so.
    """

    since: datetime
    until: datetime | None = None
    by: str | None = None
    code: str | None = None
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class Pauses:
    """Every pause there is: the queue's, and those of providers by name."""

    queue: Pause | None
    providers: dict[str, Pause]


def lock_provider(name: str, *, cap: int | None) -> bool:
    """Make the rules about a provider hold still for a claim, until the transaction ends.

    With a cap, claims must count one after the other to keep it at every moment; without, only probes queue up.

    Args:
        name: the provider, whose row is made where there is none.
        cap: most calls in flight across all workers, None for no limit.

    Returns:
        Whether it is paused: a claim that is admitted all the same is its probe.
    """
    provider = read_provider(name, lock=cap is not None)
    if provider["paused_at"] is not None and cap is None:
        provider = read_provider(name, lock=True)
    return provider["paused_at"] is not None


def read_pauses() -> Pauses:
    """Return every pause, inside the current transaction."""
    found = rows(
        """
        SELECT name AS provider, paused_at, paused_until, NULL AS paused_by,
               reason ->> 'code' AS code, reason ->> 'message' AS reason
          FROM providers WHERE paused_at IS NOT NULL
        UNION ALL
        SELECT NULL, paused_at, NULL, paused_by, NULL, reason
          FROM queues WHERE name = 'stages' AND paused_at IS NOT NULL
         ORDER BY provider
        """
    )
    pauses = {
        each["provider"]: Pause(
            each["paused_at"], each["paused_until"], each["paused_by"], each["code"], each["reason"]
        )
        for each in found
    }
    return Pauses(pauses.pop(None, None), pauses)


def read_holds(run_ids: Collection[UUID], crews: Iterable[Crew]) -> dict[UUID, str]:
    """Return by which rule the due stage of a run is held back, inside the current transaction.

    Args:
        run_ids: the runs.
        crews: the working fleet; a stage that any of them may claim is not held back.

    Returns:
        The run's id → the rule's kind, for runs whose due stage is held back.
    """
    holds: dict[UUID, str] = {}
    admitted: set[UUID] = set()
    for crew in crews:
        found = rows(
            f"SELECT run_id, {HELD_BY} AS held_by FROM stages WHERE run_id = ANY(%(run_ids)s::uuid[]) AND {due()}",
            run_ids=list(run_ids),
            provider=crew.provider,
            cap=crew.cap,
        )
        admitted |= {each["run_id"] for each in found if each["held_by"] is None}
        for each in found:
            holds.setdefault(each["run_id"], each["held_by"])
    return {run_id: kind for run_id, kind in holds.items() if run_id not in admitted}


@dataclass(frozen=True, slots=True)
class Demand:
    """The due stages that further workers could take, sooner or later.

    Attributes:
        with_model: those that need a model.
        without_model: those that need none.
        stopped: whether all due stages of the queue, or all that need a model, wait for a person: then only what is in
            flight is work. A pause that ends by itself does not count, or a fleet would follow each of them.
    """

    with_model: int
    without_model: int
    stopped: bool


def read_demand(crews: Collection[Crew], pauses: Pauses) -> Demand:
    """Count the due stages that no lasting pause holds back, inside the current transaction.

    Args:
        crews: the working fleet; what any of them may claim counts. Where nobody works, whoever comes is taken to call
            a provider that is paused, if one is.
        pauses: every pause there is.
    """
    names = [crew.provider for crew in crews] or list(pauses.providers) or [""]
    found = [
        row(
            f"""
            SELECT count(*) FILTER (WHERE needs_model AND NOT {HELD_FOR_GOOD}) AS with_model,
                   count(*) FILTER (WHERE NOT needs_model AND NOT {HELD_FOR_GOOD}) AS without_model
              FROM stages WHERE {due()}
            """,
            provider=name,
            cap=None,
        )
        for name in dict.fromkeys(names)
    ]
    counts = [each for each in found if each is not None]
    stops = pauses.queue is not None or all(_waits_for_a_person(pauses.providers.get(name)) for name in names)
    return Demand(
        with_model=max(each["with_model"] for each in counts),
        without_model=max(each["without_model"] for each in counts),
        stopped=stops,
    )


def _waits_for_a_person(pause: Pause | None) -> bool:
    return pause is not None and pause.until is None
