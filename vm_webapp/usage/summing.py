"""Adds calls that have ended to the usage of their day, so that the table of calls stays short."""

from __future__ import annotations

from vm_webapp.db.pool import autocommit, row

BATCH = 5_000

# One statement, so that no reader sees a call in both tables, or in neither. SKIP LOCKED: workers take different calls.
# They may add to the same day, in the order of its key, so that they cannot deadlock; whoever ends a call touches no
# row of a day and waits for none of them.
# Materialized: in some plans PostgreSQL runs a subquery with LIMIT and SKIP LOCKED once for each row, and so takes all.
_SUM = """
    WITH oldest AS MATERIALIZED (
        SELECT id FROM unsummed_calls ORDER BY id LIMIT %(batch)s FOR UPDATE SKIP LOCKED
    ), taken AS (
        DELETE FROM unsummed_calls WHERE id IN (SELECT id FROM oldest) RETURNING *
    ), added AS (
        INSERT INTO usage_days AS before (day, brand_id, workflow, model, calls, estimated_calls, unpriced_calls,
                                          prompt_tokens, completion_tokens, money)
        SELECT day, brand_id, workflow, model, count(*), count(*) FILTER (WHERE estimated),
               count(*) FILTER (WHERE money IS NULL), sum(prompt_tokens), sum(completion_tokens),
               coalesce(sum(money), 0)
          FROM taken GROUP BY brand_id, day, workflow, model ORDER BY brand_id, day, workflow, model
        ON CONFLICT (brand_id, day, workflow, model) DO UPDATE
           SET calls = before.calls + excluded.calls,
               estimated_calls = before.estimated_calls + excluded.estimated_calls,
               unpriced_calls = before.unpriced_calls + excluded.unpriced_calls,
               prompt_tokens = before.prompt_tokens + excluded.prompt_tokens,
               completion_tokens = before.completion_tokens + excluded.completion_tokens,
               money = before.money + excluded.money
    )
    SELECT count(*) AS taken FROM taken
"""


def sum_ended_calls() -> int:
    """Add up to ``BATCH`` calls to the usage of their days.

    Returns:
        How many calls were added; ``BATCH`` when more may be left.

    Raises:
        DatabaseUnavailable: none was added.
    """
    with autocommit():
        found = row(_SUM, batch=BATCH)
    assert found is not None  # a count has one row
    return int(found["taken"])
