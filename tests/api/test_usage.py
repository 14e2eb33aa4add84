"""GET /usage: what calls have used, by day, brand, workflow and model, as JSON and as CSV; and the cost of a run."""

from __future__ import annotations

import csv
import io
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from tests.api.client import Api
from tests.support.runs import create
from tests.support.work import WORKER, claim_next
from vm_webapp.db.pool import execute, transaction
from vm_webapp.llm.base import Completion
from vm_webapp.prices import Price, PriceTable
from vm_webapp.runs import lifecycle
from vm_webapp.usage import reports, summing
from vm_webapp.usage.calls import CallUsage

USED = CallUsage("kimi", 100, 20, Decimal("0.001"), estimated=False)
PRICES = PriceTable("USD", {"kimi": Price(Decimal(1), Decimal(1), Decimal(1))})


def add(day: str, workflow: str = "plan", model: str = "kimi", money: str | None = "0.5", brand: Any = None) -> None:
    """Add a call that no day has yet."""
    with transaction():
        execute(
            """INSERT INTO unsummed_calls (day, brand_id, workflow, model, prompt_tokens, completion_tokens, money,
                                           estimated)
               VALUES (%(day)s, %(brand)s, %(workflow)s, %(model)s, 10, 5, %(money)s, %(money)s IS NULL)""",
            day=day, brand=brand, workflow=workflow, model=model, money=money,
        )  # fmt: skip


@pytest.fixture
def priced(api: Api) -> Api:
    """An API with a price table."""
    api.services.settings = replace(api.services.settings, model_prices=PRICES)
    return api


async def test_usage_is_added_up_by_day_over_sums_and_calls_that_no_sum_has_yet(priced: Api) -> None:
    add("2026-11-01")
    add("2026-11-02", money=None)
    summing.sum_ended_calls()
    add("2026-11-02", workflow="other")
    add("2026-11-03")
    report = (await priced.get("/usage?from=2026-11-01&to=2026-11-02")).json()
    assert (report["from"], report["to"], report["currency"]) == ("2026-11-01", "2026-11-02", "USD")
    assert [(row["day"], row["calls"], row["unpriced_calls"], row["money"]) for row in report["items"]] == [
        ("2026-11-01", 1, 0, "0.5"),
        ("2026-11-02", 2, 1, "0.5"),
    ]
    first = report["items"][0]
    assert (first["prompt_tokens"], first["completion_tokens"], first["estimated_calls"]) == (10, 5, 0)
    assert (first["brand_id"], first["brand"], first["workflow"], first["model"]) == (None,) * 4


async def test_usage_is_told_apart_by_what_the_caller_asks_for(api: Api) -> None:
    brand = (await api.post("/brands", {"name": "Molar"})).json()["id"]
    add("2026-11-01", workflow="plan", brand=brand)
    add("2026-11-02", workflow="plan", model="other", brand=brand)
    add("2026-11-02", workflow="calendar")
    days = "from=2026-11-01&to=2026-11-30"
    items = (await api.get(f"/usage?{days}&by=brand,workflow")).json()["items"]
    assert [(row["brand_id"], row["brand"], row["workflow"], row["calls"], row["day"]) for row in items] == [
        (brand, "Molar", "plan", 2, None),
        (None, None, "calendar", 1, None),
    ]
    items = (await api.get(f"/usage?{days}&by=model")).json()["items"]
    assert [(row["model"], row["calls"]) for row in items] == [("kimi", 2), ("other", 1)]


async def test_by_default_it_is_the_last_thirty_days(api: Api) -> None:
    report = (await api.get("/usage")).json()
    last = date.fromisoformat(report["to"])
    assert (last - datetime.now(UTC).date()).days in (0, 1)  # 0 where midnight has passed meanwhile
    assert (report["from"], report["currency"]) == ((last - timedelta(days=30)).isoformat(), None)
    for days_before in (0, 1, 30, 31):
        add((last - timedelta(days=days_before)).isoformat())
    report = (await api.get(f"/usage?to={last}")).json()
    assert len(report["items"]) == 3
    assert (await api.get("/usage?from=2020-01-01&to=2020-01-31")).json()["items"] == []


async def test_the_table_for_spreadsheets_holds_no_formula(priced: Api) -> None:
    formulas = ['=HYPERLINK("http://x.example","open")', "+1", "-1", "@SUM(A1)", "\tx", "\uff1d1+1"]
    names = [*formulas, 'Quoted, "Inc"', "Zahnärzte"]
    brands = [(await priced.post("/brands", {"name": name})).json() for name in names]
    for brand in brands:
        add("2026-11-01", workflow="=1+1", brand=brand["id"])
    response = await priced.get(
        "/usage?from=2026-11-01&to=2026-11-01&by=brand,workflow", headers={"Accept": "text/csv"}
    )
    assert response.headers["Content-Type"] == "text/csv; charset=utf-8"
    assert response.headers["Content-Disposition"] == 'attachment; filename="usage-2026-11-01-2026-11-01.csv"'
    head, *rows = csv.reader(io.StringIO(response.body.decode()))
    assert response.headers["Vary"] == "Accept"
    assert head == ["brand_id", "brand", "workflow", *USAGE_COLUMNS]
    assert {row[2] for row in rows} == {"'=1+1"}
    stored = {brand["name"] for brand in brands}
    assert {row[1].removeprefix("'") for row in rows} == stored
    assert not [cell for row in rows for cell in row if cell.startswith(("=", "+", "-", "@", "\t", "\uff1d"))]
    assert rows[0][3:] == ["1", "0", "0", "10", "5", "0.5", "USD"]


USAGE_COLUMNS = (
    *("calls", "estimated_calls", "unpriced_calls", "prompt_tokens", "completion_tokens"),
    *("money", "currency"),
)


@pytest.mark.parametrize(
    ("query", "parameter"),
    [
        ("by=", "by"),
        ("by=run", "by"),
        ("from=2026-13-01", "from"),
        ("from=1.11.2026", "from"),
        ("to=1999-12-31", "to"),
        ("from=2026-11-02&to=2026-11-01", "to"),
        ("first=2026-11-02", "first"),
    ],
)
async def test_a_wrong_parameter_is_refused_by_its_name(api: Api, query: str, parameter: str) -> None:
    assert (await api.get(f"/usage?{query}")).wrong(422, "invalid_parameter") == {parameter}


async def test_a_report_that_begins_after_its_default_end_is_refused(api: Api) -> None:
    refused = (await api.get("/usage?from=2999-01-01")).problem(422, "invalid_input")
    assert refused["detail"] == "from lies after tomorrow: give to as well"
    assert (await api.get("/usage?from=2999-01-01&to=2999-01-01")).json()["items"] == []


async def test_a_report_that_is_too_long_is_refused(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reports, "MOST_ROWS", 1)
    add("2026-11-01")
    add("2026-11-02")
    refused = (await api.get("/usage?from=2026-11-01&to=2026-11-02")).problem(422, "invalid_input")
    assert refused["detail"] == "these are more than 1 rows: ask for fewer days, or by fewer of day"


async def test_a_run_shows_what_it_and_each_stage_cost(priced: Api) -> None:
    run_id = create().run.id
    used = replace(USED, estimated=True)
    text = Completion("# A document", "kimi")
    assert lifecycle.finish_stage_if_held(claim_next(run_id), text, WORKER, next_token=None, usage=used)
    cost = {"money": "0.001", "currency": "USD", "estimated": True}
    for run in ((await priced.get(f"/runs/{run_id}")).json(), (await priced.get("/runs")).json()["items"][0]):
        assert (run["cost"], run["stages"][0]["cost"], run["stages"][1]["cost"]) == (cost, cost, None)
    canceled = (await priced.post(f"/runs/{run_id}/cancel", {})).json()
    assert canceled["cost"] == cost


async def test_what_the_server_did_not_count_is_not_shown_as_nothing(api: Api) -> None:
    run_id = create().run.id
    for text, used in (
        (Completion("# Topics", "kimi", "some-model"), replace(USED, estimated=True)),
        (Completion("# Calendar", "kimi", "some-model", 100, 20), USED),
    ):
        assert lifecycle.finish_stage_if_held(claim_next(run_id), text, WORKER, next_token=None, usage=used)
    counted = {"prompt_tokens": 100, "completion_tokens": 20, "uncounted": False}
    nothing = {"prompt_tokens": 0, "completion_tokens": 0, "uncounted": True}
    for run in ((await api.get(f"/runs/{run_id}")).json(), (await api.get("/runs")).json()["items"][0]):
        assert run["usage"] == counted | {"uncounted": True}
        assert [stage["usage"] for stage in run["stages"]] == [nothing, counted]
    artifacts = (await api.get(f"/runs/{run_id}/artifacts")).json()["items"]
    assert [each["usage"] for each in artifacts] == [nothing, counted]
    # What a fork takes over has cost it nothing, and its call is not one of the fork's.
    fork = (await api.post(f"/runs/{run_id}/fork", {"from_stage": "calendar"})).json()
    (taken,) = (await api.get(f"/runs/{fork['id']}/artifacts")).json()["items"]
    assert taken["usage"] == fork["usage"] == {"prompt_tokens": 0, "completion_tokens": 0, "uncounted": False}


async def test_without_a_price_table_nothing_has_a_cost(api: Api) -> None:
    run_id = create().run.id
    text = Completion("# A document", "kimi")
    assert lifecycle.finish_stage_if_held(claim_next(run_id), text, WORKER, next_token=None, usage=USED)
    assert (await api.get(f"/runs/{run_id}")).json()["cost"] is None
