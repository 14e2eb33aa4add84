"""A brand's budget of a day: once it is spent its calls wait for the next day, and nobody else's do."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID, uuid4
from zoneinfo import ZoneInfo

import pytest

from tests.db.attempts import claim, claimed
from tests.db.spending import CALL_TOKENS, finish, spend
from tests.db.workers import let_work
from tests.support.actors import OPERATOR
from tests.support.audit import entries
from tests.support.runs import create, read
from vm_webapp.context import brands
from vm_webapp.db.pool import execute, rows, transaction
from vm_webapp.errors import InvalidInput
from vm_webapp.ops import queue_control
from vm_webapp.ops.doctor.queue import check_oldest_due, check_time_zones
from vm_webapp.runs import lifecycle, queries
from vm_webapp.runs.due import find_due
from vm_webapp.runs.lifecycle import Claimant
from vm_webapp.runs.statements import claim_due_stages

pytestmark = pytest.mark.usefixtures("database")

ZONE = "Pacific/Kiritimati"  # fourteen hours ahead of UTC


def make_brand(**values: Any) -> UUID:
    """Create a brand."""
    return brands.create({"name": "One", **values}, actor=OPERATOR).id


def tokens(number: int) -> dict[str, Any]:
    """Return a budget of tokens."""
    return {"tokens": number, "money": None}


def money(amount: str) -> dict[str, Any]:
    """Return a budget of money."""
    return {"tokens": None, "money": Decimal(amount)}


@pytest.mark.parametrize("summed", [True, False], ids=["summed", "not yet summed"])
@pytest.mark.parametrize(
    ("budget", "used", "said"),
    [
        (tokens(1000), {"tokens": 1200}, "1,200 of 1,000 tokens"),
        (money("0.50"), {"money": "0.5"}, "0.5 of 0.5 in money"),
        ({"tokens": 10**9, "money": Decimal(1)}, {"tokens": 5, "money": "2"}, "2 of 1 in money"),
    ],
    ids=["tokens", "money", "both"],
)
def test_a_budget_that_is_spent_holds_calls_back_everywhere(
    budget: dict[str, Any], used: dict[str, Any], said: str, summed: bool
) -> None:
    brand = make_brand(day_budget=budget, time_zone=ZONE)
    spend(brand, summed=summed, **used)
    let_work()
    held_back, other, free = create(brand_id=brand), create(), create("smoke", brand_id=brand)
    waiting = queries.get_run(held_back.run.id).waiting_on
    assert waiting is not None
    assert (waiting.kind, said in waiting.detail, ZONE in waiting.detail) == ("brand_budget", True, True)
    assert held_back.run.waiting_on == waiting
    today = datetime.now(ZoneInfo(ZONE)).replace(hour=0, minute=0, second=0, microsecond=0)
    assert waiting.until == (today + timedelta(days=1)).astimezone(UTC)
    assert set(find_due("kimi", 9, cap=None).ids) == {other.stage_id, free.stage_id}
    assert [claim(each.stage_id) is not None for each in (held_back, other, free)] == [False, True, True]
    assert queries.get_run(held_back.run.id).status == "queued"


def test_what_is_summed_and_what_is_not_yet_count_together() -> None:
    brand = make_brand(day_budget=tokens(1000))
    spend(brand, tokens=400, summed=True)
    spend(brand, tokens=599)
    created = create(brand_id=brand)
    assert find_due("kimi", 9, cap=None).ids == (created.stage_id,)
    spend(brand, tokens=1)
    assert find_due("kimi", 9, cap=None).ids == ()


@pytest.mark.parametrize("days", [-1, 1])
def test_another_day_and_another_brand_count_for_nothing(days: int) -> None:
    """The next day goes on by itself: what was spent is of another day then."""
    brand, other = make_brand(day_budget=tokens(1000), time_zone=ZONE), make_brand()
    spend(brand, tokens=5000, summed=True, days=days)
    spend(brand, tokens=5000, days=days)
    spend(other, tokens=5000)
    created = create(brand_id=brand)
    assert claim(created.stage_id) is not None


def test_the_day_is_that_of_the_brands_time_zone() -> None:
    """Of two zones that are 25 hours apart, one has another date than the other at any time."""
    ahead = make_brand(day_budget=tokens(10), time_zone=ZONE)
    behind = make_brand(day_budget=tokens(10), time_zone="Pacific/Niue")
    with transaction():
        for brand in (ahead, behind):
            execute(
                "INSERT INTO unsummed_calls (day, brand_id, workflow, model, prompt_tokens, completion_tokens,"
                " estimated) VALUES ((now() AT TIME ZONE %(zone)s)::date, %(brand)s, 'w', 'm', 99, 0, false)",
                zone=ZONE,
                brand=brand,
            )
    assert claim(create(brand_id=ahead).stage_id) is None
    assert claim(create(brand_id=behind).stage_id) is not None


def test_stages_that_a_budget_holds_back_are_no_demand_and_hide_nobody() -> None:
    brand = make_brand(day_budget=tokens(1000))
    spend(brand, tokens=1000)
    let_work()
    for _ in range(12):
        create(brand_id=brand)
    with transaction():
        execute("UPDATE stages SET start_tag = 1")
    other = create()
    assert queue_control.read_queue().desired_workers == 1
    claims = lifecycle.claim_due_stages(Claimant(uuid4(), "kimi"), [uuid4() for _ in range(4)]).claims
    assert [held.stage_id for held in claims] == [other.stage_id]


def test_stages_that_a_budget_holds_back_are_not_late() -> None:
    """They may wait for most of a day: that is no backlog, and nobody needs to be woken up for it."""
    brand = make_brand(day_budget=tokens(1000))
    spend(brand, tokens=1000)
    create(brand_id=brand)
    with transaction():
        execute("UPDATE stages SET available_at = now() - interval '6 h'")
    status = queue_control.read_queue()
    assert (status.queued, status.due, status.oldest_due_seconds) == (1, 0, 0.0)
    assert check_oldest_due().verdict == "ok"
    create("smoke", brand_id=brand)  # it needs no model
    with transaction():
        execute("UPDATE stages SET available_at = now() - interval '9 s' WHERE NOT needs_model")
    status = queue_control.read_queue()
    assert (status.queued, status.due) == (2, 1)
    assert 9 <= status.oldest_due_seconds < 60


def test_the_call_that_spends_the_budget_is_the_last_of_its_run_and_day() -> None:
    brand = make_brand(day_budget=tokens(2 * CALL_TOKENS))
    created = create("plan_90d", brand_id=brand, auto_approve=True)
    second = finish(claimed(created.stage_id)).next
    assert second is not None
    assert finish(second).next is None
    run = queries.get_run(created.run.id)
    assert run.waiting_on is not None
    assert (run.status, run.waiting_on.kind) == ("running", "brand_budget")


def test_a_higher_budget_goes_on_at_once_and_none_counts_nothing() -> None:
    brand = make_brand(day_budget=tokens(1000))
    spend(brand, tokens=1000)
    created = create(brand_id=brand)
    assert claim(created.stage_id) is None
    brands.change(brand, {"day_budget": tokens(1001)}, version=1, actor=OPERATOR)
    assert find_due("kimi", 9, cap=None).ids == (created.stage_id,)
    spend(brand, tokens=1)
    assert find_due("kimi", 9, cap=None).ids == ()
    brands.change(brand, {"day_budget": None}, version=2, actor=OPERATOR)
    assert claim(created.stage_id) is not None
    assert brands.read(brand).day_budget is None


def test_a_run_from_before_the_tags_counts_for_its_brand() -> None:
    brand = make_brand(day_budget=tokens(10))
    spend(brand, tokens=10)
    created = create(brand_id=brand)
    with transaction():
        execute("UPDATE stages SET start_tag = 0, brand_id = NULL")
    assert claim(created.stage_id) is None


@pytest.mark.parametrize("wrong", ["Mars/Olympus", "XYZ3", "utc", "../UTC", "", " UTC", "posix/UTC"])
def test_what_is_no_time_zone_is_refused(wrong: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        make_brand(time_zone=wrong)
    assert refused.value.pointer == "/time_zone"
    assert read("SELECT FROM brands") == []


def test_utc_is_known_on_a_machine_without_time_zones(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small images of containers have none, and every brand without a time zone is in UTC."""
    monkeypatch.setattr("vm_webapp.context.time_zones.known_time_zones", frozenset)
    assert brands.read(make_brand(time_zone="UTC")).time_zone == "UTC"
    with pytest.raises(InvalidInput):
        make_brand(time_zone="Europe/Berlin")


def test_a_zone_that_postgresql_does_not_know_any_more_counts_as_utc_and_stops_nothing() -> None:
    """A database that was restored on another server may know fewer zones."""
    brand = make_brand(day_budget=tokens(1000))
    with transaction():
        execute("UPDATE brands SET time_zone = 'Mars/Olympus'")
    created = create(brand_id=brand)
    held = claim(created.stage_id)
    assert held is not None
    finish(held)
    assert read("SELECT count(*)::int AS calls FROM unsummed_calls WHERE day = (now() AT TIME ZONE 'UTC')::date") == [
        {"calls": 1}
    ]
    spend(brand, tokens=1000)
    later = create(brand_id=brand)
    assert claim(later.stage_id) is None
    waiting_on = queries.get_run(later.run.id).waiting_on
    assert waiting_on is not None
    assert waiting_on.kind == "brand_budget"
    with transaction():
        check = check_time_zones()
    assert (check.verdict, "PostgreSQL does not know Mars/Olympus" in check.detail) == ("warn", True)


def test_the_audit_trail_says_which_budget_was_set() -> None:
    brand = make_brand(day_budget=money("2.50"))
    brands.change(brand, {"day_budget": None, "time_zone": ZONE}, version=1, actor=OPERATOR)
    created, changed = [each for each in entries() if each["target"] == f"brand:{brand}"]
    assert created["data"] == {"version": 1, "day_budget_tokens": None, "day_budget_money": "2.5"}
    assert changed["data"] == {"version": 2, "fields": ["day_budget", "time_zone"]}


def test_without_a_budget_a_claim_reads_nothing_of_what_was_spent() -> None:
    """Neither what was spent nor the stages of a run: only the index of the brands with a budget, which is empty."""
    brand = make_brand()
    for _ in range(3):
        create(brand_id=brand)
    values: dict[str, Any] = {
        "provider": "kimi",
        "cap": None,
        "limit": 8,
        "tokens": [uuid4() for _ in range(8)],
        "lease": 15,
    }
    values |= {"worker": uuid4(), "actor": "worker", "provider_locked": False, "without": []}
    with transaction():
        execute("SET LOCAL enable_seqscan = off")
        (explained,) = rows(f"EXPLAIN (ANALYZE, TIMING OFF, FORMAT JSON) {claim_due_stages().text}", **values)
    nodes, waiting = [], [explained["QUERY PLAN"][0]["Plan"]]
    while waiting:
        node = waiting.pop()
        nodes.append(node)
        waiting.extend(node.get("Plans", ()))
    of_budgets = [node for node in nodes if node.get("Relation Name") in ("usage_days", "unsummed_calls")]
    assert of_budgets
    assert {node["Actual Loops"] for node in of_budgets} == {0}
    assert [node["Actual Loops"] for node in nodes if node.get("Index Name") == "brands_budgeted"] == [1]
    of_run = [node for node in nodes if node.get("Alias") == "of_run"]
    assert {node["Actual Loops"] for node in of_run} == {0}
