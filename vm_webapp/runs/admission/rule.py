"""The two kinds of rules: those that limit how many stages are claimed, and budgets."""

from __future__ import annotations

from dataclasses import dataclass


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
            With an owner: a query for a JSON object with the capacity of each owner that has a limit, NULL if none has.
            It refers neither to the stage nor to the parameters, so that PostgreSQL computes it once for a statement
            and not for each stage.
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
    def of_owners(self) -> bool:
        """Whether it concerns no stage without an owner."""
        return self.owner is not None

    @property
    def applies(self) -> str:
        """SQL, whether the rule applies to this stage."""
        return "stages.needs_model" if self.calls_only else "true"

    @property
    def once(self) -> str | None:
        """SQL, the CTE that the other conditions read; None for a rule without an owner, which needs none."""
        return None if self.owner is None else f"{self.kind}(capacity) AS MATERIALIZED ({self.capacity})"

    @property
    def capacity_for_stage(self) -> str:
        """SQL, as ``capacity``, for this stage's owner."""
        if self.owner is None:
            return self.capacity
        return f"((SELECT capacity FROM {self.kind}) ->> {self.owner})::integer"

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


@dataclass(frozen=True, slots=True)
class BudgetRule:
    """A budget: once it is spent, no further call begins that it would pay for. Calls in flight go on.

    It counts what calls have cost that have ended, and not how many stages run. Stages that need no model cost nothing
    and are never held back.

    Attributes:
        kind: the ``kind`` of ``waiting_on``.
        explanation: as for ``Rule``.
        given: SQL, whether there is such a budget for this stage, which costs less than ``spent``.
        spent: SQL, whether that of this stage is spent; refers to the stage as ``stages``.
        once: SQL, a CTE that ``spent`` reads; None if it needs none.
        of_owners: whether it concerns no stage without an owner.
    """

    kind: str
    explanation: str
    given: str
    spent: str
    once: str | None = None
    of_owners: bool = False

    @property
    def holds_back(self) -> str:
        """SQL, whether the budget holds this stage back."""
        return f"(stages.needs_model AND {self.spent})"

    @property
    def holds_back_next(self) -> str:
        """SQL, whether this stage must not be claimed by the statement that ends the one before it in its run.

        That statement does not see what it writes itself, which is what the stage before has cost. The next one is
        queued then, and claimed by a statement of its own.
        """
        return f"(stages.needs_model AND {self.given})"
