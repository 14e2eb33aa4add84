"""Budgets over HTTP: of runs, of brands' days, and what is refused."""

from __future__ import annotations

from collections.abc import AsyncIterator
from decimal import Decimal
from itertools import product
from typing import Any

import pytest

from tests.api.client import Api
from tests.api.conftest import Serving
from tests.db.spending import spend
from tests.support.fleet import beat
from tests.support.runs import read
from tests.support.work import claim_next
from vm_webapp.prices import Price, PriceTable
from vm_webapp.runs import lifecycle
from vm_webapp.runs.states import Failure
from vm_webapp.settings import Settings
from vm_webapp.usage.calls import CallUsage

PRICES = PriceTable("USD", {"kimi-for-coding": Price(Decimal(1), Decimal(2), Decimal(1))})
EVERY_PLACE = ("/runs", "/runs/{run}/retry", "/brands")


@pytest.fixture
async def priced(serving: Serving, database: str) -> AsyncIterator[Api]:
    """An API that knows what its model costs."""
    async with serving(Settings(model_prices=PRICES)) as running:
        yield running


def body(place: str, budget: Any) -> dict[str, Any]:
    """Return the body of a request that gives a budget in one of the places."""
    if place == "/brands":
        return {"name": "Molar", "day_budget": budget}
    new = {"workflow": "plan_90d", "request": "a plan"} if place == "/runs" else {}
    return new | {"budget": budget}


def failed_run(*, tokens: int = 0) -> str:
    """Return a run without a budget that has failed after a call of so many tokens."""
    (run,) = read("SELECT id FROM runs ORDER BY id DESC LIMIT 1")
    used = CallUsage("kimi-for-coding", tokens, 0, None, estimated=False)
    failure = Failure("llm_bad_request", "HTTP 400", permanent=True)
    lifecycle.fail_attempt_if_held(claim_next(run["id"]), failure, jitter=0, usage=used)
    return str(run["id"])


async def test_a_run_shows_its_budget_and_a_retry_replaces_it(api: Api) -> None:
    created = (await api.post("/runs", body("/runs", {"tokens": 5000}))).json()
    assert created["budget"] == {"tokens": 5000, "money": None}
    assert (await api.create_run())["budget"] is None
    failed = failed_run(tokens=100)
    assert (await api.post(f"/runs/{failed}/retry", {"budget": {"tokens": 9000}})).json()["budget"]["tokens"] == 9000
    assert (await api.get(f"/runs/{failed}")).json()["budget"] == {"tokens": 9000, "money": None}


async def test_a_retry_with_a_budget_that_is_spent_already_is_refused(api: Api) -> None:
    await api.create_run()
    failed = failed_run(tokens=100)
    refused = await api.post(f"/runs/{failed}/retry", {"budget": {"tokens": 100}})
    assert refused.status == 422
    assert refused.json()["errors"] == [
        {"pointer": "/budget", "message": "the run has spent it already: 100 of 100 tokens"}
    ]
    assert (await api.get(f"/runs/{failed}")).json()["status"] == "failed"


async def test_money_is_taken_as_a_number_or_as_text_and_shown_as_text(priced: Api) -> None:
    for given, shown in ((0.1, "0.1"), (2, "2"), ("0.50", "0.5"), ("0.000000001", "0.000000001")):
        created = (await priced.post("/runs", body("/runs", {"money": given}))).json()
        stored = (await priced.get(f"/runs/{created['id']}")).json()
        assert [each["budget"]["money"] for each in (created, stored)] == [shown] * 2
        again = await priced.post("/runs", body("/runs", stored["budget"]))
        assert again.status == 201


WRONG: list[tuple[Any, str]] = [
    ({}, "give tokens, money or both"),
    ({"tokens": None, "money": None}, "give tokens, money or both"),
    ({"tokens": 0}, "greater than or equal to 1"),
    ({"tokens": -5}, "greater than or equal to 1"),
    ({"tokens": 1.5}, "valid integer"),
    ({"tokens": 10**18}, "less than or equal to"),
    ({"tokens": "many"}, "valid integer"),
    ({"money": 0}, "greater than 0"),
    ({"money": "-1"}, "must be a number"),
    ({"money": "1e3"}, "must be a number"),
    ({"money": 0.00000000001}, "no more than 9 decimal places"),
    ({"money": 1e300}, "less than or equal to"),
    ({"money": True}, "must be a number"),
    ({"tokens": 5, "calls": 1}, "Extra inputs"),
    (5, "object"),
    ("1000", "object"),
]


async def test_what_is_no_budget_is_refused_everywhere(priced: Api) -> None:
    run = (await priced.create_run())["id"]
    for place, (budget, message) in product(EVERY_PLACE, WRONG):
        refused = await priced.post(place.format(run=run), body(place, budget))
        assert (place, budget, refused.status) == (place, budget, 422)
        (error,) = refused.json()["errors"]
        assert error["pointer"].startswith("/day_budget" if place == "/brands" else "/budget")
        assert message.lower() in error["message"].lower()


@pytest.mark.parametrize("prices", [None, PriceTable("EUR", {"another": Price(Decimal(1), Decimal(1), Decimal(1))})])
async def test_money_for_a_model_without_a_price_is_refused(
    serving: Serving, database: str, prices: PriceTable | None
) -> None:
    async with serving(Settings(model_prices=prices)) as api:
        run = (await api.create_run())["id"]
        for place in EVERY_PLACE:
            refused = await api.post(place.format(run=run), body(place, {"money": 5}))
            (error,) = refused.problem(422, "invalid_input")["errors"]
            assert error["pointer"].endswith("budget/money")
            assert "kimi-for-coding has no price in VM_MODEL_PRICES" in error["message"]


async def test_a_brand_has_a_time_zone_and_a_day_budget(api: Api) -> None:
    plain = (await api.post("/brands", {"name": "Molar"})).json()
    assert (plain["time_zone"], plain["day_budget"]) == ("UTC", None)
    brand = (
        await api.post("/brands", {"name": "Molar", "time_zone": "America/Sao_Paulo", "day_budget": {"tokens": 1000}})
    ).json()
    assert (brand["time_zone"], brand["day_budget"]) == ("America/Sao_Paulo", {"tokens": 1000, "money": None})
    path, read_first = f"/brands/{brand['id']}", {"If-Match": '"1"'}
    refused = await api.request("PATCH", path, json={"time_zone": "Brasil/Rio"}, headers=read_first)
    assert (refused.status, refused.json()["errors"][0]["pointer"]) == (422, "/time_zone")
    changed = await api.request("PATCH", path, json={"day_budget": None}, headers=read_first)
    assert (changed.json()["day_budget"], changed.json()["time_zone"]) == (None, "America/Sao_Paulo")
    assert (await api.get(path)).json() == changed.json()


async def test_a_run_says_that_it_waits_for_the_next_day(api: Api) -> None:
    beat()
    brand = (await api.post("/brands", {"name": "Molar", "day_budget": {"tokens": 1000}})).json()
    spend(brand["id"], tokens=1500)
    waiting = (await api.create_run(brand_id=brand["id"]))["waiting_on"]
    assert (waiting["kind"], "1,500 of 1,000 tokens" in waiting["detail"]) == ("brand_budget", True)
    assert waiting["until"].endswith("T00:00:00.000000Z")
    queue = (await api.get("/queue")).json()
    assert (queue["queued"], queue["due"], queue["desired_workers"]) == (1, 0, 1)
