"""What has been spent of budgets, as SQL: of a brand's on this day, and of a run's."""

from __future__ import annotations

# statement_timestamp() and not clock_timestamp(): an index serves a comparison only with what stays the same within a
# statement.
# A zone that this PostgreSQL does not know counts as UTC (migration 0019): it must not stop the claims.
TODAY = "(statement_timestamp() AT TIME ZONE zone_or_utc(brands.time_zone))::date"

USED_TODAY = f"""
    (SELECT coalesce(sum(tokens), 0) AS tokens, coalesce(sum(money), 0) AS money
       FROM (SELECT prompt_tokens + completion_tokens AS tokens, money FROM usage_days
              WHERE usage_days.brand_id = brands.id AND usage_days.day = {TODAY}
             UNION ALL
             SELECT prompt_tokens + completion_tokens, money FROM unsummed_calls
              WHERE unsummed_calls.brand_id = brands.id AND unsummed_calls.day = {TODAY}) calls)
"""
"""SQL: ``tokens`` and ``money`` that calls for the brand ``brands`` have cost on its present day, up to now."""

HAS_DAY_BUDGET = "(brands.day_budget_tokens IS NOT NULL OR brands.day_budget_money IS NOT NULL)"
"""SQL: whether the brand ``brands`` has a day's budget, as the index ``brands_budgeted`` has it."""

SPENT_BRANDS = f"""
    SELECT jsonb_object_agg(brands.id, true)
      FROM brands CROSS JOIN LATERAL {USED_TODAY} used
     WHERE {HAS_DAY_BUDGET} AND (used.tokens >= day_budget_tokens OR used.money >= day_budget_money)
"""
"""SQL: a query for a JSON object with the id of each brand whose budget for this day is spent; NULL if none is."""

RUN_IS_SPENT = """
    (stages.budgeted AND coalesce(
        (SELECT sum(of_run.spent_tokens) >= min(runs.budget_tokens) OR sum(of_run.spent_money) >= min(runs.budget_money)
           FROM runs JOIN stages of_run ON of_run.run_id = runs.id WHERE runs.id = stages.run_id), false))
"""
"""SQL: whether the budget of the run of the stage ``stages`` is spent; false where it has none."""
