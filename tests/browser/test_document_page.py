"""The page of a document in Chromium: rendered, as its source, as a file, and compared with another version."""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect

from tests.browser.conftest import key_of, watched
from tests.browser.watched import Watched
from tests.fakes.behaviours import completion
from tests.fakes.model_server import ModelServer
from tests.support.runs import create, wait_until_still
from vm_webapp.access.actor import Actor
from vm_webapp.runs import lifecycle, queries

DRAFT = "# Message\n\nBread by bicycle, **warm**.\n\n| Who | What |\n| - | - |\n| Early risers | rolls |\n"
EDITED = DRAFT.replace("**warm**", "**still warm**")
BOB = Actor("key:bob", "editor", "bob")


@pytest.fixture
def edited(workspace: str, writer: ModelServer) -> str:
    """The path of a document with two versions, the second of which a person wrote."""
    writer.enqueue(completion(DRAFT))
    run_id = create("landing_page", "A page for a bakery").run.id
    wait_until_still(run_id)
    (draft,) = queries.list_artifacts(run_id)
    lifecycle.approve_stage_if_waiting(
        run_id, draft.stage, artifact_sha256=draft.sha256, content=EDITED, note=None, actor=BOB
    )
    return f"/ui/runs/{run_id}/documents/{draft.stage}"


def test_a_document_is_read_as_text_and_as_its_source(tab: Watched, edited: str, tmp_path: Path) -> None:
    page = tab.goto(edited)
    expect(page.get_by_text("Version 2 · by bob")).to_be_visible()
    expect(page.locator("article strong")).to_have_text("still warm")
    expect(page.get_by_role("cell", name="Early risers")).to_be_visible()
    tab.show("document")
    with page.expect_download() as downloading:
        page.get_by_role("link", name="Download").click()
    assert downloading.value.suggested_filename == "message.md"
    downloading.value.save_as(tmp_path / "message.md")
    assert (tmp_path / "message.md").read_text() == EDITED
    page.get_by_role("link", name="Source").click()
    expect(page.locator("pre.raw")).to_have_text(EDITED)


def test_a_document_is_copied(chromium: Browser, workspace: str, edited: str) -> None:
    with watched(chromium, workspace, permissions=["clipboard-read", "clipboard-write"]) as tab:
        tab.sign_in(key_of("ann"))
        page = tab.goto(edited)
        page.get_by_role("button", name="Copy").click()
        expect(page.get_by_role("status").filter(has_text="Copied")).to_be_visible()
        assert page.evaluate("navigator.clipboard.readText()") == EDITED


def test_two_versions_are_compared_word_by_word(tab: Watched, edited: str) -> None:
    page = tab.goto(edited)
    page.get_by_label("Compare version").select_option("1")
    page.get_by_role("button", name="Compare").click()
    expect(page.get_by_text("1 line added, 1 removed")).to_be_visible()
    expect(page.locator("ins")).to_have_text("still ")
    tab.show("document-compared")
