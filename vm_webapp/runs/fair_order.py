"""The order of the queue: by priority, then fairly between owners, then by age.

It is start-time fair queueing (Goyal, Vin and Cheng, SIGCOMM 1996) with the run as its unit. A run gets a start tag
when it is created, and of one priority the lowest tag comes first. The virtual time of a priority is the greatest tag
of a run that has begun. An owner's next run is tagged one after its last, but never before the virtual time: so owners
with a backlog take turns, and one that was idle has saved nothing up. A run keeps its tag, so that one which has begun
goes on before later ones begin. Runs with the same tag are served by age, which is the order of their ids.

The owner is the run's brand, or else who created it. A tag of 0 is that of a run from before there were tags.
"""

from __future__ import annotations

ORDER = ("priority", "start_tag", "run_id")
"""The columns of ``stages`` by which the queue is sorted; its indexes (``stages_queue``) have them in this order."""


def order_of(table: str = "") -> str:
    """SQL: what follows ORDER BY; ``table`` is the name or alias of the stage's row, where one is needed."""
    return ", ".join(f"{table}.{column}" if table else column for column in ORDER)


def next_start_tag(brand_id: str, created_by: str, priority: str) -> str:
    """SQL: the start tag of a new run. Runs that are created at the same moment may get the same one.

    It reads the last entry of two indexes (``runs_begun`` and ``runs_of_owner``) and locks nothing. A run that was
    canceled before it began has taken no turn.

    Args:
        brand_id: SQL, the run's brand.
        created_by: SQL, who creates the run.
        priority: SQL, the run's priority.
    """
    return f"""
        greatest(
            1,
            (SELECT max(start_tag) FROM runs WHERE priority = {priority} AND started_at IS NOT NULL),
            (SELECT max(start_tag) + 1 FROM runs
              WHERE coalesce(brand_id::text, created_by) = coalesce(({brand_id})::text, {created_by})
                AND priority = {priority} AND (started_at IS NOT NULL OR status <> 'canceled')))
    """
