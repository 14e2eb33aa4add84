"""Reviews in Chromium: a draft is accepted, edited or sent back, also when somebody else is faster."""

from __future__ import annotations

from uuid import UUID

import pytest
from playwright.sync_api import expect

from api.schemas.reviews import MAX_CONTENT_CHARACTERS
from tests.browser.watched import Watched, follows
from tests.fakes.behaviours import completion, truncated
from tests.fakes.model_server import ModelServer
from tests.support.actors import OPERATOR
from tests.support.runs import create, wait_until_still
from vm_webapp.access.actor import Actor
from vm_webapp.access.keys import create_key, revoke_key
from vm_webapp.context import brands
from vm_webapp.runs import lifecycle, queries

BOB = Actor("key:bob", "editor", "bob")
# Chromium takes half a minute to type so much, key by key or at once.
TYPE = "(field, text) => { field.value = text; field.dispatchEvent(new Event('input', {bubbles: true})); }"
DRAFT = "# Message\n\nCheap bread by bicycle.\n"


@pytest.fixture
def waiting(workspace: str, writer: ModelServer) -> UUID:
    """A run whose draft waits for a review."""
    values = {"name": "Velo Bakery", "facts": ["Delivers before eight"], "forbidden_words": ["cheap", "free"]}
    writer.enqueue(completion(DRAFT))
    run_id = create("landing_page", "A page for a bakery", brand_id=brands.create(values, actor=BOB).id).run.id
    wait_until_still(run_id)
    return run_id


def place(run_id: UUID) -> str:
    """Return the path of the review of a run's first draft."""
    return f"/ui/reviews/{run_id}/message"


def approve(run_id: UUID) -> None:
    """Accept the draft as somebody else."""
    (draft,) = queries.list_artifacts(run_id)
    lifecycle.approve_stage_if_waiting(
        run_id, draft.stage, artifact_sha256=draft.sha256, content=None, note=None, actor=BOB
    )


def test_a_draft_is_edited_with_a_preview_and_accepted(tab: Watched, waiting: UUID) -> None:
    page = tab.goto("/ui/reviews")
    tab.show("reviews")
    page.get_by_role("link", name="Message and structure").click()
    expect(page.get_by_text("Delivers before eight")).to_be_visible()
    expect(page.get_by_text("1× in the draft")).to_be_visible()
    tab.show("review")
    page.keyboard.press("e")
    text = page.get_by_label("Text")
    expect(text).to_be_focused()
    text.fill("# Message\n\nGood bread by **bicycle**.\n")
    expect(page.get_by_role("region", name="Preview").locator("strong")).to_have_text("bicycle")
    tab.check()
    # Until the service has it, what is typed survives a reload.
    page.reload()
    expect(text).to_have_value("# Message\n\nGood bread by **bicycle**.\n")
    page.get_by_label("Note").fill("warmer")
    page.get_by_role("button", name="Approve with your edit").click()
    expect(page.get_by_text("ann approved Message and structure with an edit, version 2")).to_be_visible()
    assert queries.read_artifact(waiting, "message", version=2).content == "# Message\n\nGood bread by **bicycle**.\n"


def test_each_decision_says_what_it_leaves_out(tab: Watched, waiting: UUID) -> None:
    page = tab.goto(place(waiting))
    page.keyboard.press("e")
    page.get_by_label("Text").fill("# Good bread")
    page.get_by_label("What should change?").fill("Name the price")
    expect(page.get_by_text("Your edit is not sent")).to_be_visible()
    expect(page.get_by_text("What should change is not sent")).to_be_visible()
    page.get_by_role("button", name="Preview", exact=True).click()
    expect(page.get_by_role("region", name="Preview")).to_have_text("Good bread")
    expect(page.get_by_role("button", name="Approve with your edit")).to_be_visible()
    expect(page.get_by_text("Your edit is not sent")).to_be_visible()
    tab.check()
    page.get_by_label("What should change?").fill("")
    expect(page.get_by_text("What should change is not sent")).to_have_count(0)


def test_an_unchanged_draft_is_accepted_as_it_is(tab: Watched, waiting: UUID) -> None:
    page = tab.goto(place(waiting))
    page.get_by_role("button", name="Approve").click()
    expect(page.get_by_text("ann approved Message and structure, version 1")).to_be_visible()
    assert [each.version for each in queries.list_artifacts(waiting) if each.stage == "message"] == [1]


def test_changes_are_requested_and_the_new_draft_is_compared(tab: Watched, waiting: UUID, writer: ModelServer) -> None:
    page = tab.goto(place(waiting))
    page.keyboard.press("?")
    expect(page.get_by_role("dialog", name="Keyboard shortcuts")).to_be_visible()
    tab.check()
    page.keyboard.press("Escape")
    page.keyboard.press("c")
    page.keyboard.type("Do not call it cheap")
    writer.enqueue(completion(DRAFT.replace("Cheap", "Good")))
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    expect(page.locator(".timeline")).to_contain_text("ann requested changes to Message and structure, version 1")
    page.get_by_role("link", name="Review it").click()
    expect(page.get_by_text("Asked for before")).to_be_visible()
    page.keyboard.press("d")
    expect(page.locator("del")).to_have_text("Cheap ")
    tab.show("review-compared")


def test_a_colleague_who_is_faster_leaves_the_own_words_in_place(tab: Watched, waiting: UUID) -> None:
    page = tab.goto(place(waiting))
    follows(page)
    page.get_by_label("What should change?").fill("My long remark")
    approve(waiting)
    expect(page.get_by_text("This draft does not wait any more")).to_be_visible()
    tab.expect_status(409)
    page.get_by_role("button", name="Request changes").click()
    expect(page.get_by_role("alert").filter(has_text="Nothing has been decided")).to_be_visible()
    expect(page.get_by_text("My long remark")).to_be_visible()
    tab.check()


def test_a_draft_that_was_written_anew_is_shown_before_a_decision(
    tab: Watched, waiting: UUID, writer: ModelServer
) -> None:
    page = tab.goto(place(waiting))
    follows(page)
    page.get_by_label("Note").fill("I like it")
    (draft,) = queries.list_artifacts(waiting)
    writer.enqueue(truncated("# Another message"))
    lifecycle.request_changes_if_waiting(
        waiting, "message", artifact_sha256=draft.sha256, feedback="shorter", actor=BOB
    )
    wait_until_still(waiting)
    expect(page.get_by_text("There is a newer draft, version 2")).to_be_visible()
    tab.expect_status(409)
    page.get_by_role("button", name="Approve").click()
    expect(page.get_by_role("alert").filter(has_text="written anew")).to_be_visible()
    expect(page.get_by_role("heading", name="Another message")).to_be_visible()
    expect(page.get_by_label("Note")).to_have_value("I like it")
    expect(page.get_by_text("The text breaks off")).to_be_visible()
    tab.check()
    page.get_by_role("button", name="Approve").click()
    expect(page.get_by_text("ann approved Message and structure, version 2")).to_be_visible()


def test_a_text_that_is_too_large_for_the_service_stays_in_the_browser(tab: Watched, waiting: UUID) -> None:
    page = tab.goto(place(waiting))
    page.keyboard.press("e")
    text = page.get_by_label("Text")
    large = f"{'麵' * 99}\n" * (MAX_CONTENT_CHARACTERS // 100)  # more than 1 MiB
    page.route("**/ui/preview", lambda route: route.fulfill(status=204))
    text.evaluate(TYPE, large)
    tab.expect_status(413)
    page.get_by_role("button", name="Approve").click()
    expect(page.get_by_text("it still has what you typed")).to_be_visible()
    page.get_by_role("link", name="Go to the home page").click()
    follows(page)
    tab.goto(place(waiting))
    expect(text).to_have_value(large)
    # What the API takes is taken, though it is longer in the browser's other encoding for forms.
    text.evaluate(TYPE, large.replace("麵", "ж"))
    page.get_by_role("button", name="Approve").click()
    expect(page.get_by_text("ann approved Message and structure with an edit, version 2")).to_be_visible()
    assert len(queries.read_artifact(waiting, "message", version=2).content) == MAX_CONTENT_CHARACTERS


def test_a_session_that_ended_in_the_middle_of_a_review_loses_nothing(tab: Watched, waiting: UUID) -> None:
    tab.expect_status(401)
    page = tab.goto(place(waiting))
    page.keyboard.press("e")
    page.get_by_label("Text").fill("# Mine\n\nGood bread.\n")
    page.get_by_label("Note").fill("warmer")
    revoke_key("ann", actor=OPERATOR)
    expect(page.get_by_text("You are signed out")).to_be_visible()
    page.get_by_role("button", name="Approve").click()
    expect(page.get_by_text("comes back after you have signed in")).to_be_visible()
    assert queries.get_run(waiting).status == "waiting_approval"
    page.get_by_label("Key").fill(create_key("ann", actor=OPERATOR, role="editor").secret)
    page.keyboard.press("Enter")
    page.get_by_role("button", name="Send it now").click()
    expect(page.get_by_text("ann approved Message and structure with an edit, version 2")).to_be_visible()
    expect(page.get_by_text("warmer")).to_be_visible()
    assert queries.read_artifact(waiting, "message", version=2).content == "# Mine\n\nGood bread.\n"
