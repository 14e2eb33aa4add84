"""The frame of every page: it follows what happens, in one stream, and says what needs somebody."""

from __future__ import annotations

from playwright.sync_api import expect

from tests.browser.watched import Watched, follows
from tests.support.actors import OPERATOR
from tests.support.runs import create, wait_until_still
from vm_webapp.ops import queue_control


def test_a_draft_that_begins_to_wait_shows_in_the_title_and_the_icon(tab: Watched) -> None:
    page = tab.goto("/")
    follows(page)
    expect(page).to_have_title("Home · VM Webapp")
    created = create("landing_page", "A page for a bakery")
    wait_until_still(created.run.id)
    expect(page).to_have_title("(1) Home · VM Webapp")
    assert "icon-needed" in str(page.locator("#icon").get_attribute("href"))
    expect(page.get_by_role("status").first).to_have_text("1 draft waits for you")
    expect(page.get_by_role("region", name="Needs you").get_by_role("listitem")).to_have_count(1)
    tab.show("home-review")


def test_a_paused_queue_is_said_on_every_page_and_taken_back(tab: Watched) -> None:
    page = tab.goto("/account")
    follows(page)
    queue_control.pause_queue(reason="we move house", actor=OPERATOR)
    expect(page.get_by_text("we move house")).to_be_visible()
    queue_control.resume_queue(actor=OPERATOR)
    expect(page.get_by_text("we move house")).to_have_count(0)
