"""The rules themselves."""

from __future__ import annotations

from vm_webapp.runs.admission.rule import BudgetRule, Rule
from vm_webapp.runs.admission.spending import HAS_DAY_BUDGET, RUN_IS_SPENT, SPENT_BRANDS

BRAND_BUDGET = "brand_budget"
CALL_IN_FLIGHT = "status = 'running' AND needs_model"
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


RUN_BUDGET = BudgetRule(
    "run_budget",
    "the run's budget is spent; it will fail in a moment",
    given="stages.budgeted",
    spent=RUN_IS_SPENT,
)
RULES: tuple[Rule | BudgetRule, ...] = (
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
    BudgetRule(
        BRAND_BUDGET,
        "its brand's budget of this day is spent (its day_budget)",
        given=f"EXISTS (SELECT 1 FROM brands WHERE brands.id = {_brand_of('stages')} AND {HAS_DAY_BUDGET})",
        spent=f"coalesce((SELECT spent FROM {BRAND_BUDGET}) ? ({_brand_of('stages')})::text, false)",
        once=f"{BRAND_BUDGET}(spent) AS MATERIALIZED ({SPENT_BRANDS})",
        of_owners=True,
    ),
    RUN_BUDGET,
)
LIMITS = tuple(rule for rule in RULES if isinstance(rule, Rule))
BUDGETS = tuple(rule for rule in RULES if isinstance(rule, BudgetRule))


def explanation_of(kind: str) -> str:
    """Return what ``waiting_on`` says where this rule holds a stage back."""
    return next(rule.explanation for rule in RULES if rule.kind == kind)


def is_pause(kind: str) -> bool:
    """Return whether the rule of this kind is a pause."""
    return any(rule.kind == kind and rule.lasting is not None for rule in LIMITS)
