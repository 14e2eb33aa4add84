"""Four eyes in Chromium: a colleague decides about a run, also after a retry and about a fork."""

from __future__ import annotations

import re

from playwright.sync_api import Browser, expect

from tests.browser.conftest import key_of, watched
from tests.browser.watched import Watched, follows
from tests.fakes.behaviours import refusal
from tests.fakes.model_server import ModelServer
from tests.support.runs import wait_until_still
from vm_webapp.runs import queries
from vm_webapp.runs.queries import RunFilter

ODD = "Bread \u05e9\u05dc\u05d5\u05dd \U0001f469\u200d\U0001f680 <b>now</b>"


def start_with_four_eyes(tab: Watched, request: str) -> None:
    """Start a landing page that somebody else has to review."""
    page = tab.goto("/ui/runs/new")
    page.get_by_role("radio", name=re.compile("Landing page")).check()
    page.get_by_label("What do you want?").fill(request)
    page.get_by_label("Four eyes").check()
    page.get_by_role("button", name="Start the run").click()
    expect(page.get_by_role("heading", level=1)).to_have_text(request)


def test_who_started_a_run_leaves_its_review_to_a_colleague(
    tab: Watched, writer: ModelServer, chromium: Browser, workspace: str
) -> None:
    start_with_four_eyes(tab, ODD)
    (run,) = queries.list_runs(RunFilter(), limit=5, after=None).items
    wait_until_still(run.id)
    review = f"/ui/reviews/{run.id}/message"
    page = tab.goto("/")
    expect(page.get_by_text("you started this run, and it asks for four eyes")).to_be_visible()
    page = tab.goto(review)
    expect(page.get_by_text("somebody with another key decides")).to_be_visible()
    expect(page.get_by_role("button", name="Approve")).to_have_count(0)
    tab.show("review-four-eyes")
    page = tab.goto(f"/ui/runs/{run.id}")
    follows(page)
    with watched(chromium, workspace) as other:
        other.sign_in(key_of("bob"))
        theirs = other.goto(review)
        other.expect_status(422)
        theirs.get_by_text("Edit the draft", exact=True).click()
        theirs.get_by_label("Text", exact=True).fill(f"# Mine\n\n{ODD} a\0b\ud800")
        theirs.get_by_role("button", name="Approve").click()
        expect(theirs.get_by_role("alert").filter(has_text="that is taken out below")).to_be_visible()
        kept = re.compile(r"# Mine\n\nBread .* <b>now</b> ab\ufffd$")
        expect(theirs.get_by_label("Text", exact=True)).to_have_value(kept)
        theirs.get_by_role("button", name="Approve").click()
        expect(theirs).to_have_url(re.compile(str(run.id)))
    expect(page.get_by_text("bob").first).to_be_visible()
    stored = queries.read_artifact(run.id, "message", version=2).content
    assert stored is not None
    assert stored.startswith(f"# Mine\n\n{ODD} ab\ufffd")


def test_a_retry_and_a_fork_keep_four_eyes(tab: Watched, writer: ModelServer) -> None:
    writer.enqueue(refusal(400, "invalid_request_error", "no"))
    start_with_four_eyes(tab, "A page for a bakery")
    (run,) = queries.list_runs(RunFilter(), limit=5, after=None).items
    assert wait_until_still(run.id).status == "failed"
    page = tab.goto(f"/ui/runs/{run.id}")
    page.get_by_role("button", name="Retry from here: Message and structure").click()
    expect(page.get_by_text("ann retried the run")).to_be_visible()
    assert wait_until_still(run.id).status == "waiting_approval"
    page = tab.goto(f"/ui/reviews/{run.id}/message")
    expect(page.get_by_text("somebody with another key decides")).to_be_visible()
    page = tab.goto(f"/ui/runs/{run.id}/fork")
    page.get_by_label("The request").fill(f"{ODD} \u202eagain")
    page.get_by_role("button", name="Start the new run").dblclick()
    expect(page.get_by_role("heading", level=1)).to_contain_text("<b>now</b>")
    assert "\u202e" not in page.title()
    new, old = queries.list_runs(RunFilter(), limit=5, after=None).items
    assert (old.id, new.four_eyes) == (run.id, True)
