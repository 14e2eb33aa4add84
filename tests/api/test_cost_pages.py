"""What the pages say of cost and budgets, and the forms that give a budget."""

from __future__ import annotations

import html
import re
from collections.abc import AsyncIterator
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest

from tests.api.browsers import Browser
from tests.api.client import Api
from tests.api.conftest import Serving
from tests.db.spending import finish, spend
from tests.support.actors import OPERATOR
from tests.support.fleet import beat
from tests.support.runs import create, types
from tests.support.work import WORKER, claim_next
from vm_webapp.context import brands
from vm_webapp.prices import Price, PriceTable
from vm_webapp.runs import lifecycle, queries
from vm_webapp.runs.budget import Budget
from vm_webapp.runs.queries import RunFilter
from vm_webapp.settings import Settings

PRICES = PriceTable("USD", {"kimi-for-coding": Price(Decimal(1), Decimal(2), Decimal(1))})
FORM = {"workflow": "content_calendar", "request": "A calendar for a bakery"}


@pytest.fixture
async def browser(serving: Serving, database: str) -> AsyncIterator[Browser]:
    """A browser at an API that knows what its model costs."""
    async with serving(Settings(model_prices=PRICES)) as running:
        yield Browser(running)


async def text_of(browser: Browser, path: str) -> str:
    """Return the text of a page on one line."""
    page = await browser.get(path)
    assert page.status == 200, page.body
    return re.sub(r"\s+", " ", html.unescape(re.sub(r"<[^>]*>", " ", page.body.decode())))


def call(workflow: str = "content_calendar", **options: Any) -> UUID:
    """Return a run whose first stage is written: 60 tokens read, 40 written, for 0.25 in money."""
    run_id = create(workflow, **options).run.id
    finish(claim_next(run_id), WORKER)
    return run_id


def overspent() -> UUID:
    """Return a run that has failed because 100 of its 50 tokens and 0.25 of its 1 in money are spent."""
    run_id = call(budget=Budget(50, Decimal(1)))
    assert lifecycle.fail_run_if_budget_spent(run_id) or queries.get_run(run_id).status == "failed"
    return run_id


async def test_home_says_what_the_month_has_used_and_nothing_where_there_is_nothing(browser: Browser) -> None:
    create()
    assert "Usage this month" not in await text_of(browser, "/")
    call()
    assert "Usage this month 1 call of the model · 60 tokens read, 40 written · 0.25 USD" in await text_of(browser, "/")


async def test_without_prices_no_page_shows_money(api: Api) -> None:
    run_id = call("landing_page")
    browser = Browser(api)
    for path in ("/", f"/ui/runs/{run_id}", f"/ui/reviews/{run_id}/message"):
        text = await text_of(browser, path)
        assert "60 tokens read, 40 written" in text or path != "/"
        assert "0.25" not in text
        assert "USD" not in text


async def test_run_and_review_say_what_was_used_and_what_is_left(browser: Browser) -> None:
    run_id = call("landing_page", budget=Budget(5000, Decimal(1)))
    for path in (f"/ui/runs/{run_id}", f"/ui/reviews/{run_id}/message"):
        text = await text_of(browser, path)
        assert text.count("0.25 USD") == 2  # of the run, and of its stage
        assert "Budget: 4,900 of 5,000 tokens left · 0.75 of 1.00 USD left" in text
    assert "with a budget of 5,000 tokens and 1 in money" in await text_of(browser, f"/ui/runs/{run_id}")


async def test_a_run_that_waits_for_its_brands_next_day_says_so(browser: Browser) -> None:
    brand = brands.create({"name": "Molar", "day_budget": {"tokens": 1000, "money": None}}, actor=OPERATOR).id
    run_id = create(brand_id=brand).run.id
    spend(brand, tokens=1500)
    beat()
    text = await text_of(browser, f"/ui/runs/{run_id}")
    assert "Its brand's budget of this day is spent: 1,500 of 1,000 tokens; a new day begins at midnight (UTC)." in text
    assert "as soon as an editor has raised the brand's budget. The new day begins at" in text


async def test_a_form_gives_a_new_run_its_budget(browser: Browser) -> None:
    form = await text_of(browser, "/ui/runs/new")
    assert "Cost limit (USD)" in form
    sent = await browser.post("/ui/runs", None, **FORM, budget_tokens="20,000", budget_money="1.50")
    assert sent.status == 303
    (run,) = queries.list_runs(RunFilter(), limit=5, after=None).items
    assert run.budget == Budget(20_000, Decimal("1.50"))


@pytest.mark.parametrize(
    ("field", "given", "said"),
    [
        ("budget_tokens", "many", "Write a whole number"),
        ("budget_tokens", "1.5", "Write a whole number"),
        ("budget_tokens", "1,00", "Write a whole number"),
        ("budget_tokens", "0", "from 1 to"),
        ("budget_tokens", "9" * 5000, "from 1 to"),
        ("budget_tokens", "5\0", "Write a whole number"),
        ("budget_money", "1,50", "Write a number with a point"),
        ("budget_money", "-1", "Write a number with a point"),
        ("budget_money", "0.00", "over 0"),
        ("budget_money", "9999999999", "over 0"),
        ("budget_money", "<b>", "Write a number with a point"),
    ],
)
async def test_what_is_no_budget_is_said_beside_its_field(browser: Browser, field: str, given: str, said: str) -> None:
    page = await browser.post("/ui/runs", None, **FORM, **{field: given})
    body = page.body.decode()
    assert page.status == 422
    (beside,) = re.findall(rf'<p class="problem" id="{field}-wrong">(.*?)</p>', body)
    assert said in beside
    assert f'aria-describedby="{field}-wrong budget-hint"' in body
    assert f'value="{html.escape(given.replace(chr(0), ""))}"' in body
    assert queries.list_runs(RunFilter(), limit=5, after=None).items == ()


async def test_money_without_prices_is_neither_asked_for_nor_taken(api: Api) -> None:
    browser = Browser(api)
    assert "budget_money" not in (await browser.get("/ui/runs/new")).body.decode()
    refused = await browser.post("/ui/runs", None, **FORM, budget_money="5")
    assert refused.status == 422
    assert "has no price in VM_MODEL_PRICES" in refused.body.decode()


async def test_a_run_that_has_spent_its_budget_is_retried_with_a_higher_one(browser: Browser) -> None:
    run_id = overspent()
    text = await text_of(browser, f"/ui/runs/{run_id}")
    assert "the run's budget is spent: 100 of 50 tokens" in text
    assert "Raise the budget" in text
    place = f"/ui/runs/{run_id}/retry"
    form = (await browser.get(f"{place}?from_stage=topic_map")).body.decode()
    assert '<option value="topic_map" selected>' in form
    sent = await browser.post(place, from_stage="calendar", budget_tokens="5000", budget_money="1")
    assert (sent.status, sent.headers["Location"]) == (303, f"/ui/runs/{run_id}")
    assert queries.get_run(run_id).budget == Budget(5000, Decimal(1))
    assert "retried the run, with a budget of 5,000 tokens" in await text_of(browser, f"/ui/runs/{run_id}")


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"budget_tokens": "100", "budget_money": "1"}, "the run has spent it already: 100 of 100 tokens"),
        ({"budget_tokens": "", "budget_money": "1"}, "Say how many tokens the run may use in all."),
        ({"budget_tokens": "500", "budget_money": ""}, "Say what the run may cost in all."),
        ({"budget_tokens": "some", "budget_money": "1"}, "Write a whole number"),
    ],
)
async def test_a_retry_with_a_budget_that_does_not_do_keeps_the_form(
    browser: Browser, fields: dict[str, str], said: str
) -> None:
    run_id = overspent()
    page = await browser.post(f"/ui/runs/{run_id}/retry", from_stage="calendar", **fields)
    assert page.status == 422
    assert said in page.body.decode()
    for value in filter(None, fields.values()):
        assert f'value="{value}"' in page.body.decode()
    assert "run.retried" not in types(run_id)


async def test_the_form_of_a_run_that_has_not_failed_says_so(browser: Browser) -> None:
    run_id = create().run.id
    assert "The run is queued, and only a failed one can be retried" in await text_of(
        browser, f"/ui/runs/{run_id}/retry"
    )
