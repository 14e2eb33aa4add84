"""What decides whether due stages will be claimed, as ``waiting`` tells it."""

from __future__ import annotations

from vm_webapp.runs import admission
from vm_webapp.runs.fair_order import order_of
from vm_webapp.runs.statements.made_of_rules import made_of_rules

MOST_COUNTED = 100
"""Up to how many stages are counted that come before a stage: a person needs no more."""


FLEET = """
    (SELECT coalesce(sum(working), 0)::int AS working, coalesce(sum(alive), 0)::int AS alive,
            coalesce(array_agg(DISTINCT provider) FILTER (WHERE working > 0), '{}') AS providers
       FROM workers) fleet
"""


# The head of the queue by its index, and no further than MOST_COUNTED: the same cost however long the queue is.
HEAD = f"""
    SELECT {order_of("s")} FROM stages s
     WHERE {admission.due("s")} ORDER BY {order_of("s")} LIMIT {MOST_COUNTED + 1}
"""


@made_of_rules
def read_queue_facts() -> str:
    """Return the query for what decides whether the due stages of runs will be claimed.

    Parameter: ``run_ids``. Returns a row for each run that has a due stage, or one row where ``run_id`` is NULL. Of
    the fleet: ``working`` and ``alive``, numbers of workers, and the ``providers`` that the working ones call. Of the
    stage: ``held_by``, the kind of the rule that holds it back, or NULL, and ``ahead``, how many due stages come before
    it, NULL for more than ``MOST_COUNTED``.
    """
    # The window function numbers all rows at once: to count for each run would read the head again for each of a page.
    return f"""
        WITH {admission.claimants()}, numbered AS (
            SELECT run_id, (row_number() OVER (ORDER BY {order_of()}) - 1)::int AS place FROM ({HEAD}) head
        )
        SELECT fleet.*, asked.*
          FROM {FLEET} LEFT JOIN (
               SELECT stages.run_id, {admission.held_by()} AS held_by, numbered.place AS ahead
                 FROM stages LEFT JOIN numbered ON numbered.run_id = stages.run_id
                WHERE stages.run_id = ANY(%(run_ids)s::uuid[]) AND {admission.due()}) asked ON true
    """
