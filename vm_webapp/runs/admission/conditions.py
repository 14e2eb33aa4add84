"""Conditions made of the rules, as the statements of the queue contain them."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from vm_webapp.fleet.alive import WORKERS_BY_CLAIMS
from vm_webapp.runs.admission.rule import Rule, due
from vm_webapp.runs.admission.rules import BUDGETS, LIMITS, RULES


def may_follow(*, owned: bool) -> str:
    """SQL: no rule holds this stage back from the worker that has just ended the stage before it, due or not.

    Args:
        owned: whether the stage may have an owner; where it has none, rules of owners do not concern it.
    """
    rules = [rule for rule in RULES if owned or not rule.of_owners]
    return " AND ".join(f"NOT {rule.holds_back_next}" for rule in rules) or "true"


def capacities_of_owners() -> str:
    """SQL: CTEs that the conditions of rules with owners and of budgets read; every statement with such a one has them.

    A statement that reads none of them pays for none.
    """
    return ", ".join(rule.once for rule in RULES if rule.once is not None)


def admitted_by_its_owner(*, calls: bool) -> str:
    """SQL: this stage is due, and the rules with owners and the budgets admit it.

    ``shared_capacity`` applies the other rules.

    Args:
        calls: True where all stages in question need a model, False where none does.
    """
    rules = [rule.holds_back for rule in with_owners() if calls or not rule.calls_only]
    budgets = [budget.holds_back for budget in BUDGETS if calls]
    return " AND ".join([due(), *(f"NOT {condition}" for condition in (*rules, *budgets))])


def shared_capacity(at_most: str, *, calls: bool) -> str:
    """SQL: how many more stages may be claimed now under the rules whose capacity all stages share.

    Args:
        at_most: SQL, an upper limit of the result.
        calls: True for stages that need a model, False for those that need none.
    """
    return least(at_most, [rule.capacity for rule in shared(calls=calls)])


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
    return " OR ".join(rule.limits for rule in with_owners()) or "false"


def _of_each_owner(order: str, fits: Callable[[str, str], str]) -> str:
    # A window function may stand in the select list only, so a WHERE on this column needs a query around it.
    columns = [
        f"(NOT ({rule.applies}) OR "
        + fits(f"row_number() OVER (PARTITION BY {rule.owner} ORDER BY {order})", rule.capacity_for_stage)
        + ")"
        for rule in with_owners()
    ]
    return " AND ".join(columns) or "true"


def with_owners() -> list[Rule]:
    """Return the rules that have a capacity for each owner."""
    return [rule for rule in LIMITS if rule.owner is not None]


def shared(*, calls: bool) -> list[Rule]:
    """Return the rules whose capacity all stages share that need a model (``calls``), or that need none."""
    return [rule for rule in LIMITS if rule.owner is None and (calls or not rule.calls_only)]


def least(at_most: str, capacities: Iterable[str]) -> str:
    """SQL: the least of these capacities, and not less than 0."""
    # PostgreSQL's least() ignores NULL, which stands for no limit. greatest(): a capacity is negative while more calls
    # are in flight than a cap that was lowered allows, and a negative LIMIT is an error.
    return f"greatest(0, least({', '.join([at_most, *capacities])}))"


def claimants() -> str:
    """SQL: CTEs that ``held_by`` reads, ``capacities_of_owners`` among them.

    ``workers`` is ``WORKERS_BY_CLAIMS``. ``claimants`` has a row for each group of them that takes work, or one row of
    NULLs, and says of each rule whose capacity all stages share whether it is exhausted.
    """
    # Once for each group here rather than for each stage: one page may show two hundred.
    exhausted = [f"{_of_worker(rule.is_exhausted, 'workers')} AS {rule.kind}" for rule in shared(calls=True)]
    return f"""
        {capacities_of_owners()},
        workers AS MATERIALIZED ({WORKERS_BY_CLAIMS}),
        claimants AS MATERIALIZED (
            SELECT {", ".join(["provider", "cap", *exhausted])} FROM (SELECT) once LEFT JOIN workers ON working > 0)
    """


def held_by() -> str:
    """SQL: the kind of the rule that holds the due stage ``stages`` back, NULL where some worker may claim it.

    The statement has the CTEs of ``claimants``.
    """
    # Several rules may hold a stage back; the first of ``RULES`` is shown, for the first group of workers.
    kinds = " ".join(
        f"WHEN {rule.applies} AND claimants.{rule.kind} THEN {rule.kind!r}"
        if isinstance(rule, Rule) and rule.owner is None
        else f"WHEN {rule.holds_back} THEN {rule.kind!r}"
        for rule in RULES
    )
    return f"""
        (SELECT kind FROM (SELECT provider, cap, CASE {kinds} END AS kind FROM claimants) of_each
          ORDER BY kind IS NOT NULL, provider, cap LIMIT 1)
    """


def _of_worker(sql: str, table: str) -> str:
    """Return a rule's SQL with the columns of a table of workers in place of its parameters."""
    return sql.replace("%(provider)s", f"{table}.provider").replace("%(cap)s", f"{table}.cap")
