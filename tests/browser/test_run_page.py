"""The page of a run in Chromium: it is followed live, canceled, retried and forked."""

from __future__ import annotations

import re
from pathlib import Path

from playwright.sync_api import Browser, expect

from tests.browser.conftest import key_of, watched
from tests.browser.watched import PHONE, Watched, follows
from tests.fakes.behaviours import Behaviour, completion, refusal
from tests.fakes.model_server import ModelServer
from tests.support.actors import OPERATOR
from tests.support.deployment import Deployment, address_of
from tests.support.processes import program
from tests.support.runs import create, wait_until_still
from tests.support.waiting import eventually
from vm_webapp.runs import lifecycle, queries
from vm_webapp.runs.budget import Budget

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
    expect(page.get_by_role("status").filter(has_text="Done, 2 of 2 documents done")).to_have_count(1)
    assert queries.get_run(run_id).status == "completed"
    tab.show("run-completed")


def test_who_opens_the_page_in_the_middle_reads_the_text_from_its_beginning(
    tab: Watched, chromium: Browser, workspace: str, writer: ModelServer
) -> None:
    writer.script = lambda _: Behaviour(text="The first words. " + WORDS * 600, pause=0.05)
    run_id = create("content_calendar", "A calendar for a bakery").run.id
    writer.wait_until(lambda server: server.in_flight == 1)
    tab.page.wait_for_timeout(1500)  # in which nobody listens
    name = "The text of Topic map as it is written"
    box = tab.goto(f"/ui/runs/{run_id}").get_by_role("region", name=name)
    expect(box).to_contain_text(re.compile("^The first words. Bread"))
    with watched(chromium, workspace) as other:
        other.sign_in(key_of("ben"))
        theirs = other.goto(f"/ui/runs/{run_id}").get_by_role("region", name=name)
        expect(theirs).to_contain_text(re.compile("^The first words. Bread"))
        expect(box).not_to_contain_text("[…]")
    lifecycle.cancel_run_if_open(run_id, actor=OPERATOR)


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
    expect(page.locator("#error").get_by_role("link", name="Change the request")).to_be_visible()
    tab.show("run-failed")
    (failure,) = [event for event in queries.list_events(run_id, after=0, limit=50) if event.type == "stage.failed"]
    tab.goto(f"/ui/runs/{run_id}/events/{failure.id}")
    tab.show("event")
    page.go_back()
    page.get_by_role("button", name="Retry from here: Topic map").click()
    expect(page.get_by_text("ann retried the run")).to_be_visible()
    expect(page.locator("#stages")).to_contain_text("2 of 2 done")
    expect(page.get_by_role("link", name="Fork from here")).to_have_count(2)


# As a worker sends the text when it sees further listeners; it replaces what is shown where a piece of that was lost.
FROM_THE_START = """box => document.dispatchEvent(new CustomEvent("stage.progress", {detail: {data: JSON.stringify({
    stage: box.dataset.stage, attempt: Number(box.dataset.attempt), offset: 0, text: box.textContent + " more"
})}}))"""


def test_a_reader_of_the_live_text_is_taken_along_only_from_its_end(tab: Watched, writer: ModelServer) -> None:
    writer.script = lambda _: Behaviour(text=WORDS * 600, pause=0.05)
    run_id = create("content_calendar", "A calendar for a bakery").run.id
    page = tab.goto(f"/ui/runs/{run_id}")
    box = page.get_by_role("region", name="The text of Topic map as it is written")
    expect(box).to_be_visible()
    from_end = "box => box.scrollHeight - box.scrollTop - box.clientHeight"

    def wait_for_text() -> None:
        before = box.evaluate("box => box.textContent.length")
        eventually(lambda: box.evaluate("box => box.textContent.length") > before + 500, "more of it", seconds=60)

    eventually(lambda: box.evaluate("box => box.scrollTop") > 200, "the box scrolls along", seconds=60)
    assert box.evaluate(from_end) < 40
    box.evaluate("box => (box.scrollTop = 10)")
    wait_for_text()
    assert box.evaluate("box => box.scrollTop") == 10
    box.evaluate(FROM_THE_START)
    assert box.evaluate("box => box.scrollTop") == 10
    box.evaluate("box => (box.scrollTop = box.scrollHeight)")
    wait_for_text()
    assert box.evaluate(from_end) < 40
    # States are announced, and not what is written.
    state = page.get_by_role("status").filter(has_text="Running: writes Topic map, 0 of 2 documents done")
    expect(state).to_have_count(1)
    assert box.evaluate("box => box.closest('[role=status], [role=alert], [aria-live]')") is None
    lifecycle.cancel_run_if_open(run_id, actor=OPERATOR)


def test_a_fork_asks_for_something_else(tab: Watched) -> None:
    run_id = create("content_calendar", "A calendar for a bakery").run.id
    wait_until_still(run_id)
    page = tab.goto(f"/ui/runs/{run_id}")
    page.get_by_role("link", name="Fork from here: Publishing calendar").click()
    expect(page.get_by_label("Write anew, from this document on")).to_have_value("calendar")
    tab.show("fork")
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


def test_a_run_whose_budget_is_spent_goes_on_with_a_higher_one(tab: Watched) -> None:
    run_id = create("content_calendar", "A calendar for a bakery", budget=Budget(tokens=1)).run.id
    wait_until_still(run_id)
    page = tab.goto(f"/ui/runs/{run_id}")
    expect(page.locator("#error")).to_contain_text("The run's budget is spent")
    page.get_by_role("link", name="Raise the budget").click()
    tab.show("retry-with-budget")
    tab.expect_status(422)
    page.get_by_role("button", name="Retry").click()
    expect(page.get_by_role("alert").filter(has_text="the run has spent it already")).to_be_visible()
    page.get_by_label("Token limit").fill("1,000,000")
    page.get_by_role("button", name="Retry").click()
    expect(page.get_by_text("ann retried the run, with a budget of 1,000,000 tokens")).to_be_visible()
    expect(page.locator("#stages")).to_contain_text("2 of 2 done")


def test_a_run_is_followed_again_after_the_api_was_restarted(
    chromium: Browser, running: Deployment, workspace: str, tmp_path: Path
) -> None:
    run_id = create("landing_page", "A page for a bakery").run.id
    wait_until_still(run_id)
    with program("serve", "--port", "0", env=running.env, folder=tmp_path / "before") as api:
        url = address_of(api)
        with watched(chromium, url) as opened:
            opened.sign_in(key_of("ann"))
            page = opened.goto(f"/ui/runs/{run_id}")
            follows(page)
            opened.expect_failures_to_connect()
            assert api.stop() == 0
            expect(page.get_by_text("The connection is lost")).to_be_visible()
            lifecycle.cancel_run_if_open(run_id, actor=OPERATOR)
            port = url.rpartition(":")[2]
            with program("serve", "--port", port, env=running.env, folder=tmp_path / "after"):
                expect(page.locator(".timeline")).to_contain_text("canceled the run")
                expect(page.get_by_text("The connection is lost")).to_have_count(0)


def test_without_javascript_a_run_is_forked_and_canceled(chromium: Browser, workspace: str) -> None:
    run_id = create("landing_page", "A page for a bakery").run.id
    wait_until_still(run_id)
    with watched(chromium, workspace, java_script_enabled=False, viewport=PHONE) as opened:
        opened.sign_in(key_of("ann"))
        page = opened.goto(f"/ui/runs/{run_id}")
        page.get_by_role("link", name="Fork from here: Message and structure").click()
        page.get_by_label("The request").fill("The same for winter")
        page.get_by_role("button", name="Start the new run").click()
        expect(page.get_by_role("heading", level=1)).to_have_text("The same for winter")
        page.get_by_role("button", name="Cancel the run …").click()
        page.get_by_role("dialog").get_by_role("button", name="Cancel the run").click()
        expect(page.locator(".timeline")).to_contain_text("ann canceled the run")
    assert queries.get_run(run_id).status == "waiting_approval"
