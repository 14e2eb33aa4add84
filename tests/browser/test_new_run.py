"""Starting a run in Chromium: by pointer, by keyboard, on a phone, without JavaScript, with a session that ended."""

from __future__ import annotations

import re

from playwright.sync_api import Browser, Page, expect

from api.ui.frame import NAVIGATION
from tests.browser.conftest import key_of, watched
from tests.browser.watched import PHONE, Watched, follows
from tests.support.actors import OPERATOR
from vm_webapp.access.keys import create_key, revoke_key
from vm_webapp.context import brands, projects
from vm_webapp.runs import queries
from vm_webapp.runs.queries import RunFilter
from vm_webapp.runs.records import RunRecord

RUN_PAGE = re.compile("/ui/runs/[0-9a-f-]{36}$")
TEXT = "A calendar for a bakery\nthat delivers by bicycle"


def started(page: Page) -> RunRecord:
    """Wait until the page of the run is shown; return the run, of which there must be one."""
    expect(page).to_have_url(RUN_PAGE)
    (run,) = queries.list_runs(RunFilter(), limit=5, after=None).items
    assert page.url.endswith(str(run.id))
    return run


def fill(page: Page, text: str = TEXT) -> None:
    """Fill in the form."""
    page.get_by_role("radio", name="Content calendar").check()
    page.get_by_label("What do you want?").fill(text)


def test_a_person_starts_a_run_and_sees_it_finish(tab: Watched) -> None:
    brands.create({"name": "Brezel"}, actor=OPERATOR)
    projects.create({"name": "Spring"}, actor=OPERATOR)
    page = tab.goto("/")
    page.get_by_role("link", name="New run").click()
    tab.show("new-run")
    fill(page)
    page.get_by_role("button", name="Start the run").dblclick()
    run = started(page)
    page.get_by_role("link", name="Home").click()
    follows(page)
    done = page.get_by_role("region", name="Recently finished").get_by_role("listitem")
    expect(done).to_contain_text("2 of 2 documents")
    tab.show("home")
    assert run.request == TEXT


def test_whoever_goes_back_and_sends_the_form_again_starts_nothing_twice(tab: Watched) -> None:
    page = tab.goto("/ui/runs/new")
    fill(page)
    page.get_by_role("button", name="Start the run").click()
    run = started(page)
    page.go_back()
    expect(page.get_by_label("What do you want?")).to_have_value(TEXT)
    page.get_by_role("button", name="Start the run").click()
    assert started(page).id == run.id
    page.go_back()
    page.get_by_label("What do you want?").fill("Another calendar")
    tab.expect_status(409)
    page.get_by_role("button", name="Start the run").click()
    expect(page.get_by_role("alert").get_by_text("This form has started a run already")).to_be_visible()
    page.get_by_role("button", name="Start the run").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Another calendar")
    assert len(queries.list_runs(RunFilter(), limit=5, after=None).items) == 2


def test_an_error_is_beside_its_field_and_has_the_focus(tab: Watched) -> None:
    tab.expect_status(422)
    page = tab.goto("/ui/runs/new")
    page.evaluate("document.querySelector('form').noValidate = true")
    page.get_by_label("What do you want?").fill("x" * 20_001)
    page.get_by_role("radio", name="Content calendar").check()
    page.get_by_role("button", name="Start the run").click()
    field = page.get_by_label("What do you want?")
    expect(field).to_have_accessible_description(
        "At most 20,000 characters; this has 20,001. What is offered, to whom, and what should be different afterwards."
        " For example: “A 90-day plan for a CRM for dental clinics. Two people, 4,000 € a month, no paid search."
        " Practices with three to eight chairs should book a demo.”"
    )
    expect(field).to_be_focused()
    expect(page.get_by_role("radio", name="Content calendar")).to_be_checked()
    tab.show("new-run-wrong")


def test_a_text_that_is_too_long_is_not_even_sent_and_stays(tab: Watched) -> None:
    page = tab.goto("/ui/runs/new")
    fill(page, "x" * 2**20)
    page.get_by_role("button", name="Start the run").click()
    message = page.evaluate("document.getElementById('request').validationMessage")
    assert message == "At most 20,000 characters; this has 1,048,576."
    fill(page)
    page.get_by_role("button", name="Start the run").click()
    started(page)


def test_what_was_typed_is_still_there_after_another_page(tab: Watched) -> None:
    page = tab.goto("/ui/runs/new")
    fill(page)
    page.get_by_role("link", name="Account").click()
    page.get_by_role("link", name="New run").click()
    expect(page.get_by_label("What do you want?")).to_have_value(TEXT)
    page.get_by_role("radio", name="Content calendar").check()
    page.get_by_role("button", name="Start the run").click()
    started(page)
    page.get_by_role("link", name="New run").click()
    expect(page.get_by_label("What do you want?")).to_have_value("")
    fill(page, "not yet sent")
    page.get_by_role("link", name="Account").click()
    page.get_by_role("button", name="Sign out", exact=True).click()
    expect(page).to_have_title("Sign in · VM Webapp")
    page.wait_for_function("sessionStorage.length === 0")
    tab.show("sign-in")


def test_a_session_that_ended_in_the_middle_of_the_form_loses_nothing(tab: Watched) -> None:
    tab.expect_status(401)
    page = tab.goto("/ui/runs/new")
    fill(page)
    revoke_key("ann", actor=OPERATOR)
    expect(page.get_by_text("You are signed out")).to_be_visible()
    page.get_by_role("button", name="Start the run").click()
    expect(page.get_by_text("comes back after you have signed in")).to_be_visible()
    tab.show("sign-in-again")
    page.get_by_label("Key").fill(create_key("ann", actor=OPERATOR, role="editor").secret)
    page.keyboard.press("Enter")
    expect(page).to_have_title("Signed in again · VM Webapp")
    tab.show("signed-in-again")
    page.get_by_role("button", name="Send it now").click()
    assert started(page).request == TEXT


def test_the_keyboard_alone_starts_a_run(tab: Watched) -> None:
    page = tab.goto("/")
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to the content")).to_be_focused()
    for _ in range(len(NAVIGATION)):  # an operator's entry is not shown, and the name of the product comes first
        page.keyboard.press("Tab")
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="New run", exact=True)).to_be_focused()
    page.keyboard.press("Enter")
    expect(page).to_have_title("New run · VM Webapp")
    page.get_by_role("link", name="New run", exact=True).focus()
    page.keyboard.press("Tab")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Tab")
    expect(page.get_by_label("What do you want?")).to_be_focused()
    page.keyboard.type("A plan")
    while page.evaluate("document.activeElement.type") != "submit":
        page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    started(page)


def test_without_javascript_a_run_is_started_and_read(chromium: Browser, workspace: str) -> None:
    options = {"java_script_enabled": False, "viewport": PHONE}
    with watched(chromium, workspace, **options) as opened:
        opened.sign_in(key_of("ann"))
        page = opened.goto("/ui/runs/new")
        fill(page)
        page.get_by_role("button", name="Start the run").click()
        started(page)
