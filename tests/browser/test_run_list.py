"""The list of all runs: filters and order in its address, pages with Back and Forward, views, many runs at once."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import key_of
from tests.browser.watched import Watched, follows
from tests.support.actors import OPERATOR
from tests.support.runs import create
from vm_webapp.db.pool import execute, rows, transaction
from vm_webapp.ops import queue_control
from vm_webapp.runs import lifecycle

# Copies of one run, half of them of another workflow and canceled, every thousandth with a word of its own.
COPIES = """
    INSERT INTO runs (id, workflow, status, request, workflow_digest, created_at, finished_at, start_tag, created_by)
    SELECT uuidv7(-n * interval '1 minute'), CASE WHEN mod(n, 2) = 0 THEN 'plan_90d' ELSE workflow END,
           CASE WHEN mod(n, 2) = 0 THEN 'canceled' ELSE 'completed' END,
           'Number ' || n || CASE WHEN mod(n, 1000) = 0 THEN ' for the harbour' ELSE '' END, workflow_digest,
           created_at - n * interval '1 minute', created_at - n * interval '1 minute' + interval '1 second', 0,
           created_by
      FROM runs, generate_series(%(first)s, %(last)s) AS n WHERE id = %(id)s
"""


def fill(count: int) -> None:
    """Make a queued run beside so many older ones that have ended."""
    model = create(request="The newest one").run.id
    for first in range(1, count, 5_000):  # all at once would take longer than a statement may
        with transaction():
            execute(COPIES, id=model, first=first, last=min(first + 4_999, count))


def listed(page: Page) -> list[str]:
    """Return the first words of the runs that are shown."""
    return page.locator(".rows .what a").all_inner_texts()


@pytest.fixture(autouse=True)
def still(workspace: str) -> Iterator[None]:
    """Let the queue stand still, so that no worker takes a run of a test."""
    queue_control.pause_queue(reason="a test", actor=OPERATOR)
    yield
    queue_control.resume_queue(actor=OPERATOR)
    with transaction():
        execute("DELETE FROM saved_views")


@pytest.mark.parametrize("count", [5_000, pytest.param(100_000, marks=pytest.mark.only_in_full)])
def test_a_long_list_is_filtered_sorted_and_paged_with_back_and_forward(tab: Watched, count: int) -> None:
    fill(count)
    page = tab.goto("/ui/runs")
    follows(page)
    assert listed(page)[:2] == ["The newest one", "Number 1"]
    page.get_by_label("Search requests").fill("harbour")
    page.get_by_role("button", name="Show").click()
    expect(page.locator(".rows li")).to_have_count(min(count // 1000, 50))
    assert listed(page)[0] == "Number 1000 for the harbour"
    page.get_by_label("Status", exact=True).select_option("done")
    page.get_by_role("button", name="Show").click()
    expect(page.get_by_text("No run matches.")).to_be_visible()
    page.get_by_label("Status", exact=True).select_option("Any")
    page.get_by_text("More filters").click()
    page.get_by_label("Search requests").fill("")
    page.get_by_label("Workflow").select_option("plan_90d")
    page.get_by_label("Order").select_option("Recently ended first")
    page.get_by_role("button", name="Show").click()
    expect(page.locator(".rows .what a").first).to_have_text("Number 2")
    assert "workflow=plan_90d" in page.url
    assert "order=finished" in page.url
    page.get_by_role("link", name="Next page").click()
    expect(page.locator(".rows .what a").first).to_have_text("Number 102")
    page.get_by_role("link", name="Next page").click()
    expect(page.locator(".rows .what a").first).to_have_text("Number 202")
    page.go_back()
    expect(page.locator(".rows .what a").first).to_have_text("Number 102")
    page.go_forward()
    expect(page.locator(".rows .what a").first).to_have_text("Number 202")
    page.get_by_role("link", name="First page").click()
    expect(page.locator(".rows .what a").first).to_have_text("Number 2")
    page.get_by_text("Save this view …").click()
    page.get_by_label("Name of the view").fill("Plans that ended")
    page.get_by_role("button", name="Save").click()
    page.get_by_role("link", name="Clear").click()
    expect(page.locator(".rows .what a").first).to_have_text("The newest one")
    page.get_by_role("link", name="Plans that ended").click()
    expect(page.locator(".rows .what a").first).to_have_text("Number 2")
    page.get_by_role("link", name="1 queued").click()
    expect(page.locator(".rows li")).to_have_count(1)
    with transaction():
        assert len(rows("SELECT FROM saved_views")) == 1


def test_selected_runs_are_canceled_and_archived_after_a_look_at_what_would_happen(tab: Watched) -> None:
    tab.sign_in(key_of("ona", "operator"))  # who may cancel many at once
    for number in (3, 2, 1):
        lifecycle.cancel_run_if_open(create(request=f"Number {number}").run.id, actor=OPERATOR)
    model = create(request="The newest one").run.id
    page = tab.goto("/ui/runs")
    follows(page)
    for name in ("The newest one", "Number 1"):
        page.get_by_role("checkbox", name=name).check()
    other = create(request="One that came later").run.id
    expect(page.locator(f"#run-{other}")).to_be_visible()
    expect(page.get_by_role("checkbox", name="Number 1")).to_be_checked()
    page.get_by_role("button", name="Cancel …").click()
    expect(page.get_by_role("heading", name="Cancel 1")).to_be_visible()
    expect(page.get_by_role("region", name="Left as they are").get_by_role("listitem")).to_have_count(1)
    tab.show("run-selection")
    page.get_by_role("button", name="Cancel 1 run").click()
    expect(page.get_by_text("1 canceled.")).to_be_visible()
    expect(page.locator(f"#run-{model} .chip")).to_have_text("canceled")
    for name in ("The newest one", "Number 1", "Number 2"):
        page.get_by_role("checkbox", name=name).check()
    page.get_by_role("button", name="Archive …").click()
    page.get_by_role("button", name="Archive 3 runs").click()
    expect(page.get_by_text("3 archived.")).to_be_visible()
    expect(page.locator(".rows li")).to_have_count(2)
    for checked in (2, 0):
        page.get_by_role("button", name="Select all on this page, or none").click()
        expect(page.locator("[name=run]:checked")).to_have_count(checked)
    page.get_by_text("More filters").click()
    page.get_by_label("Include archived runs").check()
    page.get_by_role("button", name="Show").click()
    expect(page.locator(".rows li")).to_have_count(5)
    tab.show("run-list")
    page.get_by_role("checkbox", name="Number 2").check()
    page.get_by_role("button", name="Unarchive …").click()
    page.get_by_role("button", name="Unarchive 1 run").click()
    expect(page.get_by_text("1 unarchived.")).to_be_visible()


def test_all_that_match_are_canceled_on_whatever_page_they_are(tab: Watched) -> None:
    tab.sign_in(key_of("ona", "operator"))
    for number in range(60):
        create(request=f"Number {number}")
    create(request="Another one")
    page = tab.goto("/ui/runs?text=number")
    page.get_by_label("All matching runs").check()
    page.get_by_role("button", name="Cancel …").click()
    expect(page.get_by_text("60 runs match. Nothing has changed yet.")).to_be_visible()
    tab.show("run-matching")
    page.get_by_role("button", name="Cancel 60 runs").dblclick()
    expect(page.get_by_text("60 canceled.")).to_be_visible()
    with transaction():
        counts = rows("SELECT status, count(*) AS n FROM runs GROUP BY 1")
    assert {each["status"]: each["n"] for each in counts} == {"canceled": 60, "queued": 1}
