"""The row with the latest decision on the number of workers, and the queue's figures of the last hours."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any
from uuid import UUID

from vm_webapp.db.pool import jsonb, row
from vm_webapp.fleet.duty_leases import HELD
from vm_webapp.ops.autoscale.figures import Reading
from vm_webapp.ops.autoscale.shapes import Decision, Limits

# Decisions that say the same are kept at this distance, so that a quiet queue is stored in a few numbers.
APART_SECONDS = 30.0

# 1. ``held``: nothing is written by a process whose lease another one has taken.
# 2. The decision replaces the one before.
# 3. Every thirty seconds the figures are kept, whichever process has decided.
_STORE = f"""
    WITH held AS MATERIALIZED (SELECT WHERE {HELD}),
    decided AS (
        INSERT INTO autoscale_decision (decided_at, desired_workers, reason, arrivals_per_minute,
                                        completions_per_minute, mean_stage_seconds, min_workers, max_workers,
                                        target_wait_seconds, figures, past)
        SELECT to_timestamp(%(at)s), %(desired)s, %(reason)s, %(arrivals_per_minute)s, %(completions_per_minute)s,
               %(mean_stage_seconds)s, %(min_workers)s, %(max_workers)s, %(target_wait_seconds)s, %(figures)s, %(past)s
          FROM held
        ON CONFLICT (one) DO UPDATE
           SET decided_at = EXCLUDED.decided_at, desired_workers = EXCLUDED.desired_workers, reason = EXCLUDED.reason,
               arrivals_per_minute = EXCLUDED.arrivals_per_minute,
               completions_per_minute = EXCLUDED.completions_per_minute,
               mean_stage_seconds = EXCLUDED.mean_stage_seconds, min_workers = EXCLUDED.min_workers,
               max_workers = EXCLUDED.max_workers, target_wait_seconds = EXCLUDED.target_wait_seconds,
               figures = EXCLUDED.figures, past = EXCLUDED.past
    ), kept AS (
        INSERT INTO queue_history (queued, due, running, oldest_due_seconds, workers, slots, in_flight,
                                   desired_workers, reason)
        SELECT %(queued)s, %(due)s, %(running)s, %(oldest_due_seconds)s, %(workers)s, %(slots)s, %(in_flight)s,
               %(desired)s, %(reason)s
          FROM held
         WHERE NOT EXISTS (SELECT FROM queue_history WHERE at BETWEEN clock_timestamp() - interval '28 s'
                                                                  AND clock_timestamp() + interval '28 s')
    )
    SELECT count(*) AS held FROM held
"""


def store_if_held(
    decision: Decision, limits: Limits, reading: Reading, past: Sequence[Decision], *, lease: str, token: UUID
) -> bool:
    """Store a decision, inside the current transaction.

    Args:
        decision: the decision.
        limits: what it keeps to.
        reading: what it was made from.
        past: the decisions before it that the next one should know.
        lease: the name of the lease under which it was made.
        token: the lease's token.

    Returns:
        Whether it was stored: False if another process has the lease.
    """
    figures = asdict(reading.figures)
    found = row(
        _STORE,
        lease=lease,
        token=token,
        at=decision.at,
        desired=decision.desired,
        reason=decision.reason,
        past=jsonb(to_json([*past, decision])),
        **{**figures, "figures": jsonb(figures | {"measured": reading.measured.as_json()})},
        min_workers=limits.min_workers,
        max_workers=limits.max_workers,
        target_wait_seconds=limits.target_wait_seconds,
    )
    assert found is not None
    return bool(found["held"])


def to_json(past: Sequence[Decision]) -> list[tuple[float, int, int]]:
    """Return decisions as JSON values, without their reasons and without those that add nothing to their neighbours."""
    kept: list[Decision] = []
    for each in past:
        if (
            len(kept) > 1
            and each.at - kept[-2].at < APART_SECONDS
            and _same(kept[-2], kept[-1])
            and _same(each, kept[-1])
        ):
            kept.pop()
        kept.append(each)
    return [(each.at, each.desired, each.needed) for each in kept]


def from_json(found: Any, *, since: float) -> list[Decision]:
    """Return the decisions that ``to_json`` made, from a time on, without reasons; none from anything else.

    Args:
        found: JSON values.
        since: seconds by the clock of the decisions.
    """
    try:
        return [
            Decision(float(at), int(desired), int(needed), "") for at, desired, needed in found or () if at >= since
        ]
    except (TypeError, ValueError):
        return []


def _same(one: Decision, other: Decision) -> bool:
    return (one.desired, one.needed) == (other.desired, other.needed)
