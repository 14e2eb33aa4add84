"""The pages of operators and admins in Chromium: an incident from its banner to its remedy, keys, sessions."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, expect

from tests.browser.conftest import key_of, watched
from tests.browser.watched import Watched, follows
from tests.fakes.behaviours import refusal
from tests.fakes.model_server import ModelServer
from tests.support.actors import OPERATOR
from tests.support.runs import create, wait_until_still
from vm_webapp.access.keys import list_keys
from vm_webapp.db.pool import execute, transaction
from vm_webapp.ops import queue_control
from vm_webapp.runs import queries

HISTORY = """
    INSERT INTO queue_history (at, queued, due, running, oldest_due_seconds, workers, slots, in_flight, desired_workers,
                               reason)
    SELECT now() - n * interval '2 min', 9, mod(n, 40), 7, 3 * mod(n, 30), 1 + mod(n, 3), 8, 7, 2 + mod(n, 3), 'work'
      FROM generate_series(1, 170) n
    ON CONFLICT DO NOTHING
"""


@pytest.fixture
def admin_tab(chromium: Browser, workspace: str) -> Iterator[Watched]:
    """A watched tab in which an admin is signed in."""
    with watched(chromium, workspace) as opened:
        opened.sign_in(key_of("ada", "admin"))
        yield opened


def test_a_paused_queue_is_followed_from_its_banner_to_its_remedy(admin_tab: Watched) -> None:
    with transaction():
        execute(HISTORY)
    page = admin_tab.goto("/")
    page.get_by_role("link", name="Operations").click()
    admin_tab.show("operations")
    page.get_by_text("Pause the queue …").click()
    page.get_by_label("Why").first.fill("the model misbehaves")
    page.get_by_role("button", name="Pause the queue").click()
    expect(page.get_by_role("button", name="Resume the queue")).to_be_visible()
    admin_tab.show("operations-paused")
    page.get_by_role("link", name="Home").click()
    page.get_by_role("status", name="Notices").get_by_role("link", name="Go to operations").click()
    page.get_by_role("button", name="Resume the queue").click()
    expect(page.get_by_text("Pause the queue …")).to_be_visible()
    expect(page.get_by_role("status", name="Notices")).to_be_empty()


def test_what_failed_is_put_back_to_work_after_a_look(admin_tab: Watched, writer: ModelServer) -> None:
    writer.script = lambda _: refusal(400, "invalid_request_error", "no")
    runs = [create("content_calendar").run.id for _ in range(2)]
    assert {wait_until_still(run_id).status for run_id in runs} == {"failed"}
    writer.reset()
    page = admin_tab.goto("/ui/operations")
    page.get_by_role("link", name="2 runs: ").click()
    expect(page.get_by_text("Nothing has changed yet")).to_be_visible()
    admin_tab.show("bulk-retry")
    page.get_by_role("button", name="Retry 2 runs").dblclick()
    expect(page.get_by_text("2 runs were put back to work.")).to_be_visible()
    assert {wait_until_still(run_id).status for run_id in runs} == {"completed"}
    assert {queries.get_run(run_id).stages[0].status for run_id in runs} == {"completed"}


def test_a_provider_is_paused_and_resumed(admin_tab: Watched) -> None:
    page = admin_tab.goto("/ui/operations")
    page.get_by_text("Pause kimi …").click()
    page.get_by_role("region", name="Providers").get_by_label("Why").fill("too dear")
    page.get_by_role("button", name="Pause kimi").click()
    expect(page.get_by_text("too dear").first).to_be_visible()
    page.get_by_role("button", name="Resume kimi").click()
    expect(page.get_by_text("Pause kimi …")).to_be_visible()


def test_a_key_is_made_and_revoked_and_a_session_ended(admin_tab: Watched, chromium: Browser, workspace: str) -> None:
    page = admin_tab.goto("/ui/operations")
    page.get_by_role("link", name="API keys").click()
    page.get_by_text("New key …").click()
    page.get_by_label("Who will use it").fill("ben")
    page.get_by_role("button", name="Create the key").click()
    secret = page.locator("#secret").inner_text()
    admin_tab.show("keys")
    with watched(chromium, workspace) as other:
        other.sign_in(secret)
        other.expect_status(401)  # its stream may ask again before the page is loaded anew
        theirs = other.goto("/account")
        page.goto(f"{workspace}/ui/operations/sessions")
        admin_tab.show("sessions")
        page.get_by_role("listitem").filter(has_text="ben").get_by_role("button").click()
        expect(page.get_by_role("listitem").filter(has_text="ben")).to_have_count(0)
        theirs.reload()
        expect(theirs).to_have_url(f"{workspace}/sign-in?next=/account")
    page.goto(f"{workspace}/ui/operations/keys")
    page.get_by_role("listitem").filter(has_text="ben").get_by_text("Revoke …").click()
    page.get_by_role("button", name="Revoke ben").click()
    expect(page.get_by_text("ben (editor): revoked")).to_be_visible()
    assert next(each for each in list_keys() if each.name == "ben").state == "revoked"
    page.goto(f"{workspace}/ui/operations/audit")
    expect(page.get_by_role("cell", name="key.revoke").first).to_be_visible()
    admin_tab.show("audit")


def test_the_pages_follow_what_happens(admin_tab: Watched) -> None:
    page = admin_tab.goto("/ui/operations")
    follows(page)
    run = create("content_calendar").run.id
    wait_until_still(run)
    expect(page.get_by_role("region", name="Workers").last).to_contain_text("just now")


def test_a_search_of_the_audit_trail_stays_one_when_something_happens(admin_tab: Watched) -> None:
    queue_control.pause_queue(reason="we move house", actor=OPERATOR)
    page = admin_tab.goto("/ui/operations/audit?action=queue.pause")
    follows(page)
    queue_control.resume_queue(actor=OPERATOR)
    expect(page.get_by_role("status", name="Notices")).to_be_empty()
    expect(page.get_by_role("cell", name="queue.pause").first).to_be_visible()
    expect(page.get_by_role("cell", name="queue.resume")).to_have_count(0)


def test_a_key_may_be_called_like_a_part_of_the_page(admin_tab: Watched) -> None:
    for name in ("changes", "live", "main"):
        key_of(name)
    page = admin_tab.goto("/ui/operations/keys")
    follows(page)
    key_of("newcomer")
    expect(page.get_by_role("listitem").filter(has_text="newcomer")).to_be_visible()
