"""The page of a run in Chromium: it is followed live, canceled, retried and forked."""

from __future__ import annotations

import re

from playwright.sync_api import expect

from tests.browser.watched import Watched, follows
from tests.fakes.behaviours import Behaviour, completion, refusal
from tests.fakes.model_server import ModelServer
from tests.support.runs import create, wait_until_still
from vm_webapp.runs import queries

WORDS = "Bread that arrives by bicycle, warm, before eight. "


def test_a_run_is_watched_until_it_ends(tab: Watched, writer: ModelServer) -> None:
    writer.script = lambda _: Behaviour(text=WORDS * 40 + "Last words.", pause=0.05)
    run_id = create("content_calendar", "A calendar for a bakery that delivers by bicycle").run.id
    page = tab.goto(f"/ui/runs/{run_id}")
    follows(page)
    box = page.get_by_role("region", name="The text of Topic map as it is written")
    expect(box).to_contain_text("Bread that arrives by bicycle")
    tab.check()
    expect(page.get_by_role("listitem").filter(has_text="Topic map").locator(".chip")).to_have_text("done")
    expect(page.locator("#stages")).to_contain_text("2 of 2 done")
    expect(page.get_by_text("The run is complete")).to_be_visible()
    assert queries.get_run(run_id).status == "completed"
    tab.show("run-completed")


def test_a_run_is_canceled_and_says_who_did_it(tab: Watched) -> None:
    run_id = create("landing_page", "A page for a bakery").run.id
    wait_until_still(run_id)
    page = tab.goto(f"/ui/runs/{run_id}")
    page.get_by_role("button", name="Cancel the run …").click()
    expect(page.get_by_role("button", name="Let it go on")).to_be_focused()
    page.keyboard.press("Escape")
    assert queries.get_run(run_id).status == "waiting_approval"
    page.get_by_role("button", name="Cancel the run …").click()
    tab.check()
    page.get_by_role("dialog").get_by_role("button", name="Cancel the run").click()
    expect(page.get_by_text("ann canceled the run")).to_be_visible()
    expect(page.get_by_role("button", name="Cancel the run …")).to_have_count(0)


def test_a_failed_run_says_why_and_goes_on_from_where_a_person_wants(tab: Watched, writer: ModelServer) -> None:
    writer.enqueue(completion("# Topics"), refusal(400, "invalid_request_error", "no <b>calendar</b> today"))
    run_id = create("content_calendar", "A calendar for a bakery").run.id
    wait_until_still(run_id)
    page = tab.goto(f"/ui/runs/{run_id}")
    expect(page.locator("#error")).to_contain_text("no <b>calendar</b> today")
    tab.show("run-failed")
    page.get_by_role("button", name="Retry from here: Topic map").click()
    expect(page.get_by_text("ann retried the run")).to_be_visible()
    expect(page.locator("#stages")).to_contain_text("2 of 2 done")
    expect(page.get_by_role("link", name="Fork from here")).to_have_count(2)


def test_a_fork_asks_for_something_else(tab: Watched) -> None:
    run_id = create("content_calendar", "A calendar for a bakery").run.id
    wait_until_still(run_id)
    page = tab.goto(f"/ui/runs/{run_id}")
    page.get_by_role("link", name="Fork from here: Publishing calendar").click()
    expect(page.get_by_label("Write anew, from this document on")).to_have_value("calendar")
    tab.check()
    tab.expect_status(422)
    page.get_by_label("The request").fill("   ")
    page.get_by_role("button", name="Start the new run").click()
    expect(page.get_by_role("alert").filter(has_text="characters")).to_be_visible()
    page.get_by_label("The request").fill("The same for winter")
    page.get_by_role("button", name="Start the new run").dblclick()
    expect(page.get_by_role("heading", level=1)).to_have_text("The same for winter")
    expect(page.locator("#stages")).to_contain_text("2 of 2 done")
    expect(page.get_by_text("taken over from the original run").first).to_be_visible()
    page.get_by_role("link", name="forked from another run").click()
    expect(page).to_have_url(re.compile(str(run_id)))
