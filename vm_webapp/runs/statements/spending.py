"""Writes what a model call has used: onto its stage, and as a row that a duty adds to its day."""

from __future__ import annotations

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
