"""The frame of every page: it follows what happens, in one stream, and says what needs somebody."""

from __future__ import annotations

import gzip
from statistics import median

import pytest
from playwright.sync_api import Browser, expect

from api.ui import static
from tests.browser.conftest import key_of, watched
from tests.browser.watched import Watched, follows
from tests.support.actors import OPERATOR
from tests.support.runs import create, wait_until_still
from vm_webapp.ops import queue_control

SIZES = """
['navigation', 'resource'].flatMap((type) => performance.getEntriesByType(type)).map((each) => each.transferSize)
"""
READY = "performance.getEntriesByType('navigation')[0].domContentLoadedEventEnd"
# Other tabs of a real window are hidden; a test's browser shows each, so that a page is told by hand.
HIDE = "Object.defineProperty(document, 'hidden', {value: true, configurable: true});"
SHOW = "Object.defineProperty(document, 'hidden', {value: false, configurable: true});"
TELL = "document.dispatchEvent(new Event('visibilitychange'))"


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


def test_the_seventh_window_works_although_a_browser_has_six_connections_to_a_host(tab: Watched) -> None:
    pages = [tab.page, *(tab.context.new_page() for _ in range(6))]
    for tab.page in pages:
        follows(tab.goto("/account"))
    queue_control.pause_queue(reason="we move house", actor=OPERATOR)
    for page in pages:
        expect(page.get_by_text("we move house")).to_be_visible()
    # When the windows with a stream are out of sight, the others have one.
    for page in pages[:4]:
        page.evaluate(HIDE + TELL)
    queue_control.resume_queue(actor=OPERATOR)
    for page in pages[4:]:
        expect(page.get_by_text("we move house")).to_have_count(0)
    expect(pages[0].get_by_text("we move house")).to_be_visible()
    for page in pages[:4]:
        page.evaluate(SHOW + TELL)
        expect(page.get_by_text("we move house")).to_have_count(0)


def test_times_are_in_the_readers_zone_which_is_named(chromium: Browser, workspace: str) -> None:
    with watched(chromium, workspace, timezone_id="Asia/Tokyo", locale="en-GB") as opened:
        opened.sign_in(key_of("ann"))
        page = opened.goto("/account")
        expect(page.locator("time").first).to_contain_text("GMT+9")
        opened.show("account")


def test_the_first_page_is_light(tab: Watched) -> None:
    tab.goto("/")
    tab.page.wait_for_load_state("load")
    sizes = tab.page.evaluate(SIZES)
    assert len(sizes) >= 6
    assert 0 < sum(sizes) < 100_000
    css = [file for file in static.FILES if file.suffix == ".css" and file.name != "docs.css"]
    assert sum(len(gzip.compress(file.read_bytes())) for file in css) <= 8 * 1024


@pytest.mark.only_in_full
def test_the_first_page_takes_input_soon_on_a_slow_machine(tab: Watched) -> None:
    """In milliseconds from the click, in a browser that runs but has none of the page's files."""
    tab.goto("/")  # the service has served others, and the browser runs
    session = tab.context.new_cdp_session(tab.page)
    session.send("Emulation.setCPUThrottlingRate", {"rate": 4})
    session.send("Network.setCacheDisabled", {"cacheDisabled": True})
    ready = []
    for _ in range(5):
        tab.goto("/")
        ready.append(tab.page.evaluate(READY))
    assert median(ready) < 300, ready


def test_a_lost_connection_is_said_and_taken_back(chromium: Browser, workspace: str) -> None:
    with watched(chromium, workspace) as opened:
        opened.sign_in(key_of("ann"))
        opened.expect_failures_to_connect()
        page = opened.goto("/")
        follows(page)
        # A stream that is open goes on offline: another one is needed.
        page.evaluate(HIDE + TELL)
        opened.context.set_offline(True)
        page.evaluate(SHOW + TELL)
        expect(page.get_by_text("The connection is lost")).to_be_visible()
        opened.context.set_offline(False)
        expect(page.get_by_text("The connection is lost")).to_have_count(0)


@pytest.mark.parametrize(
    ("path", "status", "name"), [("/nothing", 404, "not-found"), ("/ui/runs/new", 403, "forbidden")]
)
def test_errors_are_pages_that_lead_on(chromium: Browser, workspace: str, path: str, status: int, name: str) -> None:
    with watched(chromium, workspace) as opened:
        opened.sign_in(key_of("vic", "viewer"))
        opened.expect_status(status)
        page = opened.goto(path)
        opened.show(name)
        page.get_by_role("link", name="Go to the home page").click()
        expect(page).to_have_title("Home · VM Webapp")
        expect(page.get_by_text("Nothing has been written here yet")).to_be_visible()
        opened.show("home-empty")
