"""Writes what a model call has used, onto its stage and as a row that a duty adds to its day; finds spent budgets."""

from __future__ import annotations

from vm_webapp.runs.admission import RUN_BUDGET

SPENT = """
    spent_tokens = spent_tokens + %(used_prompt)s::bigint + %(used_completion)s::bigint,
    spent_money = CASE WHEN %(used_money)s::numeric IS NULL THEN spent_money
                       ELSE coalesce(spent_money, 0) + %(used_money)s::numeric END,
    spent_estimated = spent_estimated OR %(used_estimated)s::boolean
"""
"""What an UPDATE of a stage sets. Parameters: those of ``usage.calls.values_of``."""


def insert_call(of: str, *, branded: bool = True) -> str:
    """Return the INSERT of a call that has ended.

    Args:
        of: a table with ``workflow`` and ``brand_id`` of its run.
        branded: whether the run may have a brand, in whose time zone the day begins.
    """
    own = f"(SELECT zone_or_utc(time_zone) FROM brands WHERE brands.id = {of}.brand_id)"
    zone = f"coalesce({own}, 'UTC')" if branded else "'UTC'"
    # Only an INSERT: transactions that end calls of the same brand on the same day never wait for each other.
    return f"""
        INSERT INTO unsummed_calls (day, brand_id, workflow, model, prompt_tokens, completion_tokens, money, estimated)
        SELECT (clock_timestamp() AT TIME ZONE {zone})::date, brand_id, workflow, %(used_model)s::text,
               %(used_prompt)s::bigint, %(used_completion)s::bigint, %(used_money)s::numeric,
               %(used_estimated)s::boolean
          FROM {of}
    """


RECORD_CALL = f"""
    WITH stage AS (UPDATE stages SET {SPENT} WHERE id = %(stage_id)s RETURNING run_id),
         run AS (SELECT workflow, brand_id FROM runs WHERE id = (SELECT run_id FROM stage))
    {insert_call("run")}
"""
"""Record a call of the stage ``stage_id``, whoever holds it. Parameters: those of ``usage.calls.values_of`` as well."""

# What waits for its very first call has spent nothing: long queues of new runs with budgets are passed over quickly.
FIND_SPENT_RUNS = f"""
    SELECT run_id FROM stages
     WHERE status = 'queued' AND budgeted AND (position > 1 OR attempt > 0) AND {RUN_BUDGET.holds_back}
     LIMIT %(limit)s
"""
"""The ``run_id`` of up to ``limit`` runs that wait for a call which their budget does not pay for.

It reads the index ``stages_budgeted``, which is empty where no run has a budget.
"""

FIND_SPENT_STAGE = f"""
    SELECT stages.id, stages.key, r.budget_tokens, r.budget_money, spent.tokens, spent.money
      FROM stages JOIN runs r ON r.id = stages.run_id
           CROSS JOIN LATERAL (SELECT sum(spent_tokens)::bigint AS tokens, sum(spent_money) AS money
                                 FROM stages of_run WHERE of_run.run_id = r.id) spent
     WHERE stages.run_id = %(run_id)s AND stages.status = 'queued' AND {RUN_BUDGET.holds_back}
"""
"""The queued stage of the run ``run_id`` that its budget holds back, and the budget with what has been spent of it."""
