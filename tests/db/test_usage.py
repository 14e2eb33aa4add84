"""What calls have used is written with the end of their attempt, and summed by day without anybody waiting."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from decimal import Decimal
from typing import Any
from uuid import UUID, uuid4

import psycopg2
import pytest

from tests.db.attempts import OVERLOADED, REFUSED, WORKER, cancel, claimed, wait_for_approval
from tests.db.stages import make_due
from tests.support.runs import create, read
from vm_webapp.db.pool import execute, rows, transaction
from vm_webapp.llm.base import Completion
from vm_webapp.runs import lifecycle, queries
from vm_webapp.runs.lifecycle import Claim
from vm_webapp.runs.records import Spent
from vm_webapp.usage import summing
from vm_webapp.usage.calls import CallUsage

pytestmark = pytest.mark.usefixtures("database")

TEXT = Completion("# A document", "kimi")
MONEY = Decimal("0.001")
USED = CallUsage("kimi", 100, 20, MONEY, estimated=False)
FREE = replace(USED, money=None, estimated=True)


def finish(held: Claim, usage: CallUsage | None = USED) -> None:
    """Finish an attempt and leave the next stage to others."""
    assert lifecycle.finish_stage_if_held(held, TEXT, WORKER, next_token=None, usage=usage)


def calls() -> list[dict[str, Any]]:
    """Return the calls that no day has yet."""
    return read(
        """SELECT workflow, model, prompt_tokens, completion_tokens, money, estimated, brand_id FROM unsummed_calls
            ORDER BY id"""
    )


def days() -> list[dict[str, Any]]:
    """Return the sums."""
    return read("SELECT * FROM usage_days ORDER BY brand_id, day, workflow, model")


def add_brand(zone: str) -> UUID:
    """Add a brand in a time zone and return its id."""
    brand = uuid4()
    with transaction():
        execute(
            "INSERT INTO brands (id, name, time_zone) VALUES (%(id)s, %(name)s, %(zone)s)",
            id=brand, name=str(brand), zone=zone,
        )  # fmt: skip
    return brand


def test_a_finished_stage_has_what_its_call_used() -> None:
    created = create()
    finish(claimed(created.stage_id))
    assert calls() == [
        {
            "workflow": "content_calendar", "model": "kimi", "prompt_tokens": 100, "completion_tokens": 20,
            "money": Decimal("0.001"), "estimated": False, "brand_id": None,
        }
    ]  # fmt: skip
    run = queries.get_run(created.run.id)
    assert (run.cost, run.stages[0].cost, run.stages[1].cost) == (Spent(MONEY, False),) * 2 + (None,)
    assert read("SELECT spent_tokens FROM stages WHERE position = 1") == [{"spent_tokens": 120}]


def test_a_stage_without_a_call_has_used_nothing() -> None:
    created = create()
    finish(claimed(created.stage_id), usage=None)
    assert calls() == []
    assert queries.get_run(created.run.id).cost is None


def _be_canceled(held: Claim) -> None:
    cancel(held)
    lifecycle.record_abandoned_call(held, USED)


@pytest.mark.parametrize(
    "end",
    [
        lambda held: lifecycle.fail_attempt_if_held(held, OVERLOADED, jitter=0, usage=USED),
        lambda held: lifecycle.fail_attempt_if_held(held, REFUSED, jitter=0, usage=USED),
        lambda held: lifecycle.release_stage_if_held(held, usage=USED),
        _be_canceled,
    ],
    ids=["retry", "give up", "release", "cancel"],
)
def test_however_an_attempt_ends_its_call_is_written(end: Callable[[Claim], object]) -> None:
    created = create()
    end(claimed(created.stage_id))
    (call,) = calls()
    assert (call["prompt_tokens"], call["completion_tokens"], call["money"]) == (100, 20, MONEY)
    assert queries.get_run(created.run.id).cost == Spent(MONEY, estimated=False)


def test_an_attempt_that_has_lost_its_stage_writes_no_call_when_it_ends() -> None:
    held = claimed(create().stage_id)
    cancel(held)
    assert lifecycle.fail_attempt_if_held(held, OVERLOADED, jitter=0, usage=USED) is None
    assert not lifecycle.release_stage_if_held(held, usage=USED)
    assert lifecycle.finish_stage_if_held(held, TEXT, WORKER, next_token=None, usage=USED) is None
    assert calls() == []


def test_the_calls_of_a_stage_add_up_and_an_estimate_shows() -> None:
    created = create()
    assert lifecycle.fail_attempt_if_held(claimed(created.stage_id), OVERLOADED, jitter=0, usage=FREE)
    assert queries.get_run(created.run.id).cost is None  # no call with a price so far
    for _ in range(2):
        make_due()
        assert lifecycle.release_stage_if_held(claimed(created.stage_id), usage=USED)
    assert queries.get_run(created.run.id).cost == Spent(Decimal("0.002"), estimated=True)
    assert read("SELECT spent_tokens FROM stages WHERE position = 1") == [{"spent_tokens": 360}]


def test_a_draft_that_waits_for_a_person_has_its_cost() -> None:
    created, _ = wait_for_approval()
    assert queries.get_run(created.run.id).cost is None
    other = create("landing_page")
    finish(claimed(other.stage_id))
    assert queries.get_run(other.run.id).status == "waiting_approval"
    assert queries.get_run(other.run.id).cost == Spent(MONEY, estimated=False)


def test_the_day_begins_in_the_brands_time_zone() -> None:
    for zone in ("Pacific/Kiritimati", "Pacific/Niue", "UTC"):  # 14 h before UTC, 11 h after it
        finish(claimed(create(brand_id=add_brand(zone)).stage_id))
    finish(claimed(create().stage_id))
    found = read(
        """SELECT day - (now() AT TIME ZONE coalesce(time_zone, 'UTC'))::date AS off, time_zone, day
             FROM unsummed_calls LEFT JOIN brands ON brands.id = brand_id"""
    )
    assert len(found) == 4
    assert {call["off"] for call in found} == {0}
    by_zone = {call["time_zone"]: call["day"] for call in found}
    assert by_zone["Pacific/Kiritimati"] > by_zone["Pacific/Niue"]


def test_calls_are_summed_once_by_day_brand_workflow_and_model() -> None:
    brand = add_brand("UTC")
    for usage in (USED, FREE, replace(USED, model="other")):
        finish(claimed(create().stage_id), usage)
    finish(claimed(create(brand_id=brand).stage_id))
    assert summing.sum_ended_calls() == 4
    finish(claimed(create().stage_id))
    assert (summing.sum_ended_calls(), summing.sum_ended_calls()) == (1, 0)
    assert calls() == []
    shown = [
        (
            d["brand_id"],
            d["model"],
            d["calls"],
            d["estimated_calls"],
            d["unpriced_calls"],
            d["prompt_tokens"],
            d["money"],
        )
        for d in days()
    ]
    assert shown == [
        (brand, "kimi", 1, 0, 0, 100, Decimal("0.001")),
        (None, "kimi", 3, 1, 1, 300, Decimal("0.002")),
        (None, "other", 1, 0, 0, 100, Decimal("0.001")),
    ]


def test_nobody_who_ends_a_call_waits_for_a_sum_and_two_sums_take_different_calls(database: str) -> None:
    for _ in range(2):
        finish(claimed(create().stage_id))
    with psycopg2.connect(database) as slow, slow.cursor() as cursor:
        cursor.execute(summing._SUM, {"batch": 1})  # not committed: it holds a call and its day
        finish(claimed(create().stage_id))  # a wait would end in a time-out of the statement
        free = read("SELECT id FROM unsummed_calls FOR UPDATE SKIP LOCKED")
        assert (len(free), len(calls())) == (2, 3)
    slow.close()
    assert summing.sum_ended_calls() == 2
    (day,) = days()
    assert day["calls"] == 3


def test_a_sum_takes_no_more_than_a_batch_whatever_its_plan() -> None:
    for _ in range(3):
        finish(claimed(create().stage_id))
    with transaction():
        for kind in ("hashjoin", "mergejoin", "hashagg", "sort", "material"):
            execute(f"SET LOCAL enable_{kind} = off")
        assert rows(summing._SUM, batch=1) == [{"taken": 1}]
    assert len(calls()) == 2
