"""What may be claimed: the rules that hold a due stage back, each stated once.

The query for due stages, the claim, a run's ``waiting_on``, readiness, the doctor and ``desired_workers`` are all built
from these rules. A further rule, such as a cap for each brand, is one more entry of ``RULES``.

The rules are SQL text, because they are pasted into statements that Peewee cannot express
(``vm_webapp/runs/statements/``), and they are evaluated by PostgreSQL, because facts that were read before the claim
may have changed when it happens.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from vm_webapp.db.pool import row
from vm_webapp.fleet.alive import WORKERS_BY_CLAIMS, WorkerGroup
from vm_webapp.runs.fair_order import order_of

CALL_IN_FLIGHT = "status = 'running' AND needs_model"


def due(table: str = "stages") -> str:
    """SQL: whether a stage is queued and its ``available_at`` has passed; ``table`` is the name or alias of its row."""
    # clock_timestamp(), because now() is the transaction's start: a transaction that waited for a lock would compare
    # with a time before a backoff ended.
    return f"({table}.status = 'queued' AND {table}.available_at <= clock_timestamp())"


@dataclass(frozen=True, slots=True)
class Rule:
    """A rule that limits how many stages may be claimed.

    Its SQL has the parameters ``provider`` and ``cap`` of the worker that would claim, and refers to the stage as
    ``stages``. What it needs of a stage is a column of ``stages``: the statement that creates a run evaluates the rules
    as well, and neither the stage nor its run is in a table by then.

    Attributes:
        kind: the ``kind`` of ``waiting_on``.
        explanation: the ``detail`` of ``waiting_on``, where there is none that is more specific.
        capacity: SQL, how many more of the stages to which the rule applies may be claimed now; NULL for any number.
            With an owner: a JSON object with the capacity of each owner that has a limit, NULL if none has. It must not
            refer to the stage, so that PostgreSQL computes it once for a statement and not for each stage.
        calls_only: whether it applies only to stages that need a model.
        owner: SQL, the stage's brand or the like, as text: each of its values has a capacity of its own. NULL where the
            stage has none. None where all stages share one capacity.
        limits: SQL, whether the rule limits this stage's owner, which costs less than ``capacity``; only with an owner.
        lasting: for a pause: SQL, whether a person must end it, rather than time. None for a rule that is no pause.
    """

    kind: str
    explanation: str
    capacity: str
    calls_only: bool = False
    owner: str | None = None
    limits: str = "false"
    lasting: str | None = None

    @property
    def applies(self) -> str:
        """SQL, whether the rule applies to this stage."""
        return "stages.needs_model" if self.calls_only else "true"

    @property
    def capacity_for_stage(self) -> str:
        """SQL, as ``capacity``, for this stage's owner."""
        return self.capacity if self.owner is None else f"(({self.capacity}) ->> {self.owner})::integer"

    @property
    def is_exhausted(self) -> str:
        """SQL, whether no more of the stages to which the rule applies may be claimed."""
        # NULL is no limit; in a comparison it would make the whole condition NULL, which a WHERE takes for false.
        return f"coalesce({self.capacity_for_stage}, 1) <= 0"

    @property
    def holds_back(self) -> str:
        """SQL, whether the rule holds this stage back."""
        return f"({self.applies} AND {self.is_exhausted})"

    @property
    def holds_back_next(self) -> str:
        """SQL, whether the rule holds this stage back from its own run's worker, which has just ended the one before.

        The statement that ends a stage still counts it as running: the next one of the run takes its place.
        """
        if self.owner is None:
            return self.holds_back
        return f"({self.applies} AND coalesce({self.capacity_for_stage}, 1) < 0)"

    @property
    def capacity_for_more_workers(self) -> str:
        """SQL, as ``capacity``; a pause that time will end is no reason to have fewer workers."""
        return self.capacity if self.lasting is None else f"CASE WHEN {self.lasting} THEN 0 END"


_QUEUE_PAUSED = "EXISTS (SELECT 1 FROM queues WHERE name = 'stages' AND paused_at IS NOT NULL)"
_PROVIDER_PAUSED = "EXISTS (SELECT 1 FROM providers WHERE name = %(provider)s AND paused_at IS NOT NULL"
PROVIDER_IS_PAUSED = f"{_PROVIDER_PAUSED})"
CALLS_ARE_COUNTED = f"%(cap)s::integer IS NOT NULL OR {PROVIDER_IS_PAUSED}"
"""SQL: whether claims of calls must wait for each other, so that no two of them take the last that a rule admits.

Without a cap they need not, and a healthy provider delays no claim.
"""


def _brand_of(table: str) -> str:
    """SQL: the brand of a stage's run; ``table`` is the name or alias of the stage's row."""
    return f"""
        CASE WHEN {table}.start_tag > 0 THEN {table}.brand_id
             ELSE (SELECT brand_id FROM runs WHERE id = {table}.run_id) END
    """


RULES: tuple[Rule, ...] = (
    Rule(
        "queue_paused",
        "an operator has paused the queue",
        capacity=f"CASE WHEN {_QUEUE_PAUSED} THEN 0 END",
        lasting=_QUEUE_PAUSED,
    ),
    # A pause whose time is over admits one stage, the probe. The probe ends with its lease: a worker that dies during
    # it leaves a token that no stage has any more once the stage is rescued, and the next stage becomes the probe.
    Rule(
        "provider_paused",
        "the model's provider is paused",
        capacity="""
        (SELECT CASE WHEN paused_until <= clock_timestamp()
                          AND NOT EXISTS (SELECT 1 FROM stages held WHERE held.lease_token = probe_token)
                     THEN 1 ELSE 0 END
           FROM providers WHERE name = %(provider)s AND paused_at IS NOT NULL)
        """,
        calls_only=True,
        lasting=f"{_PROVIDER_PAUSED} AND paused_until IS NULL)",
    ),
    # Calls that began before the pause may still fill the cap when the probe is due, and the probe must not wait for
    # them. A paused provider admits nothing else, so the cap cannot be exceeded by more than this one call.
    Rule(
        "model_limit",
        "as many model calls are in flight as are allowed",
        capacity=f"""
        CASE WHEN %(cap)s::integer IS NOT NULL AND NOT {PROVIDER_IS_PAUSED}
             THEN %(cap)s::integer
                  - (SELECT count(*) FROM stages calls WHERE {CALL_IN_FLIGHT} AND provider = %(provider)s) END
        """,
        calls_only=True,
    ),
    Rule(
        "brand_limit",
        "as many stages of this brand are running as it may have (its max_running)",
        capacity=f"""
        SELECT jsonb_object_agg(brands.id, max_running - coalesce(busy.stages, 0))
          FROM brands LEFT JOIN (SELECT {_brand_of("held")} AS brand_id, count(*) AS stages
                                   FROM stages held WHERE status = 'running' GROUP BY 1) busy ON brand_id = brands.id
         WHERE max_running IS NOT NULL
        """,
        owner=f"({_brand_of('stages')})::text",
        limits=f"""
        EXISTS (SELECT 1 FROM brands WHERE brands.id = {_brand_of("stages")} AND max_running IS NOT NULL)
        """,
    ),
)


def explanation_of(kind: str) -> str:
    """Return what ``waiting_on`` says where this rule holds a stage back."""
    return next(rule.explanation for rule in RULES if rule.kind == kind)


def may_follow() -> str:
    """SQL: no rule holds this stage back from the worker that has just ended the stage before it, due or not."""
    return " AND ".join(f"NOT {rule.holds_back_next}" for rule in RULES) or "true"


def admitted_by_its_owner() -> str:
    """SQL: this stage is due, and the rules with owners admit it; ``shared_capacity`` applies the others."""
    return " AND ".join([due(), *(f"NOT {rule.holds_back}" for rule in _with_owners())])


def shared_capacity(at_most: str, *, calls: bool) -> str:
    """SQL: how many more stages may be claimed now under the rules whose capacity all stages share.

    Args:
        at_most: SQL, an upper limit of the result.
        calls: True for stages that need a model, False for those that need none.
    """
    return _least(at_most, [rule.capacity for rule in _shared(calls=calls)])


def within_owners_capacity(order: str) -> str:
    """SQL: a column of due stages, whether this one, with those before it, fits into the capacity of its owner.

    Args:
        order: SQL, the order in which the stages are claimed.
    """
    # ``holds_back`` alone would return every due stage of an owner that has capacity for one.
    return _of_each_owner(order, lambda place, capacity: f"{place} <= coalesce({capacity}, 2147483647)")


def first_of_its_owner(order: str) -> str:
    """SQL: a column of due stages, whether this is the first of its owner, where a rule limits that owner.

    Claims that are made at the same moment do not see each other. Each takes one stage of an owner with a limit, so
    that a limit is passed by no more than one stage for each of these claims, and waits for none of them.

    Args:
        order: SQL, the order in which the stages are claimed.
    """
    return _of_each_owner(order, lambda place, capacity: f"{capacity} IS NULL OR {place} = 1")


def owner_is_limited() -> str:
    """SQL: whether a rule limits this stage's owner."""
    return " OR ".join(rule.limits for rule in _with_owners()) or "false"


def _of_each_owner(order: str, fits: Callable[[str, str], str]) -> str:
    # A window function may stand in the select list only, so a WHERE on this column needs a query around it.
    columns = [
        f"(NOT ({rule.applies}) OR "
        + fits(f"row_number() OVER (PARTITION BY {rule.owner} ORDER BY {order})", rule.capacity_for_stage)
        + ")"
        for rule in _with_owners()
    ]
    return " AND ".join(columns) or "true"


def _with_owners() -> list[Rule]:
    return [rule for rule in RULES if rule.owner is not None]


def _shared(*, calls: bool) -> list[Rule]:
    return [rule for rule in RULES if rule.owner is None and (calls or not rule.calls_only)]


def _least(at_most: str, capacities: Iterable[str]) -> str:
    # PostgreSQL's least() ignores NULL, which stands for no limit. greatest(): a capacity is negative while more calls
    # are in flight than a cap that was lowered allows, and a negative LIMIT is an error.
    return f"greatest(0, least({', '.join([at_most, *capacities])}))"


def claimants() -> str:
    """SQL: CTEs that ``held_by`` reads.

    ``workers`` is ``WORKERS_BY_CLAIMS``. ``claimants`` has a row for each group of them that takes work, or one row of
    NULLs, and says of each rule whose capacity all stages share whether it is exhausted.
    """
    # Once for each group here rather than for each stage: one page may show two hundred.
    exhausted = [f"{_of_worker(rule.is_exhausted, 'workers')} AS {rule.kind}" for rule in RULES if rule.owner is None]
    return f"""
        workers AS MATERIALIZED ({WORKERS_BY_CLAIMS}),
        claimants AS MATERIALIZED (
            SELECT {", ".join(["provider", "cap", *exhausted])} FROM (SELECT) once LEFT JOIN workers ON working > 0)
    """


def held_by() -> str:
    """SQL: the kind of the rule that holds the due stage ``stages`` back, NULL where some worker may claim it.

    The statement has the CTEs of ``claimants``.
    """
    # Several rules may hold a stage back; the first of RULES is shown, for the first group of workers.
    kinds = " ".join(
        f"WHEN {rule.applies} AND claimants.{rule.kind} THEN {rule.kind!r}"
        if rule.owner is None
        else f"WHEN {_of_worker(rule.holds_back, 'claimants')} THEN {rule.kind!r}"
        for rule in RULES
    )
    return f"""
        (SELECT kind FROM (SELECT provider, cap, CASE {kinds} END AS kind FROM claimants) of_each
          ORDER BY kind IS NOT NULL, provider, cap LIMIT 1)
    """


def is_pause(kind: str) -> bool:
    """Return whether the rule of this kind is a pause."""
    return any(rule.kind == kind and rule.lasting is not None for rule in RULES)


def _of_worker(sql: str, table: str) -> str:
    """Return a rule's SQL with the columns of a table of workers in place of its parameters."""
    return sql.replace("%(provider)s", f"{table}.provider").replace("%(cap)s", f"{table}.cap")


@dataclass(frozen=True, slots=True)
class Demand:
    """The work that more workers could do.

    Attributes:
        claimable: due stages that may be claimed now, or when a pause that ends by itself is over.
        stopped: whether a person must act before stages that need a model, or any, are claimed again.
    """

    claimable: int
    stopped: bool


def read_demand(groups: Iterable[WorkerGroup]) -> Demand:
    """Count the stages that the rules would let more workers claim, inside the current transaction.

    Args:
        groups: the worker groups that could grow, at least one; the group that could claim the most counts.
    """
    demands = [_demand_of(group) for group in groups]
    return Demand(max(each.claimable for each in demands), all(each.stopped for each in demands))


def _demand_of(group: WorkerGroup) -> Demand:
    capacities = {calls: [rule.capacity_for_more_workers for rule in _shared(calls=calls)] for calls in (True, False)}
    lasting = [f"({rule.lasting})" for rule in RULES if rule.lasting is not None]
    # Unlike the query for due stages, this one counts the whole queue: its length is what more workers are wanted for.
    # Only stages of owners with a limit are numbered, and none are read twice where no owner has one.
    limits = [f"({rule.capacity}) IS NOT NULL AND {rule.capacity_for_stage} IS NOT NULL" for rule in _with_owners()]
    limited = f"({' OR '.join(limits) or 'false'})"
    found = row(
        f"""
        SELECT ({_least("calls", capacities[True])} + {_least("others", capacities[False])})::int AS claimable,
               {" OR ".join(lasting)} AS stopped
          FROM (SELECT count(*) FILTER (WHERE needs_model AND fits) AS calls,
                       count(*) FILTER (WHERE NOT needs_model AND fits) AS others
                  FROM (SELECT needs_model, true AS fits FROM stages WHERE {due()} AND NOT {limited}
                        UNION ALL
                        SELECT needs_model, {within_owners_capacity(order_of())}
                          FROM stages WHERE {due()} AND {limited}) each_stage) due
        """,
        provider=group.provider,
        cap=group.cap,
    )
    assert found is not None
    return Demand(found["claimable"], found["stopped"])
