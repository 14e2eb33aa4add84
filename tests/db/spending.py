"""Calls that have cost something."""

from __future__ import annotations

from decimal import Decimal
from uuid import UUID, uuid4

from tests.db.attempts import TEXT, WORKER
from vm_webapp.db.pool import execute, transaction
from vm_webapp.runs import lifecycle
from vm_webapp.runs.lifecycle import Claim, Claimant, Finished
from vm_webapp.usage.calls import CallUsage

CALL_TOKENS = 100
CALL_MONEY = Decimal("0.25")
USED = CallUsage("kimi-k2", 60, 40, CALL_MONEY, estimated=False)


def finish(held: Claim, worker: Claimant = WORKER) -> Finished:
    """Finish an attempt whose call has cost ``USED``."""
    finished = lifecycle.finish_stage_if_held(held, TEXT, worker, next_token=uuid4(), usage=USED)
    assert finished is not None
    return finished


def spend(brand: UUID, *, tokens: int = 0, money: str | None = None, summed: bool = False, days: int = 0) -> None:
    """Let calls of a brand have cost so much, so many days from now in its time zone; in one table or the other."""
    into = (
        "usage_days (day, brand_id, workflow, model, calls, estimated_calls, unpriced_calls, prompt_tokens,"
        " completion_tokens, money) SELECT day, id, 'w', 'm', 1, 0, 0, 0, %(tokens)s, coalesce(%(money)s::numeric, 0)"
        if summed
        else "unsummed_calls (day, brand_id, workflow, model, prompt_tokens, completion_tokens, money, estimated)"
        " SELECT day, id, 'w', 'm', 0, %(tokens)s, %(money)s::numeric, false"
    )
    with transaction():
        execute(
            f"INSERT INTO {into} FROM (SELECT id, (now() AT TIME ZONE zone_or_utc(time_zone))::date + %(days)s AS day"
            " FROM brands WHERE id = %(brand)s) spent",
            brand=brand,
            tokens=tokens,
            money=money,
            days=days,
        )
