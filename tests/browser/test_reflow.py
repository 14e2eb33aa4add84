"""Every page fits its window, whatever people, models and files say, and however large its text is."""

from __future__ import annotations

from collections.abc import Iterator
from urllib.parse import quote
from uuid import UUID

import pytest
from playwright.sync_api import Browser

from api.ui.places import CHANGES
from api.ui.table import PAGES, STATIC_FILES
from tests.browser.conftest import key_of, watched
from tests.browser.watched import Watched
from tests.fakes.behaviours import completion, refusal
from tests.fakes.model_server import ModelServer
from tests.support.actors import OPERATOR
from tests.support.runs import create, wait_until_still
from vm_webapp.context import brands, projects
from vm_webapp.db.pool import execute, transaction
from vm_webapp.ops import queue_control
from vm_webapp.runs import lifecycle, queries

WIDTHS = (320, 768, 1280)  # and 360 where a test shows a page
LONG = "x" * 200
FROM_RIGHT = "مرحبا بالعالم " * 10 + "\u202e evil \u2066 more"
EMOJI = "👨‍👩‍👧‍👦😀" * 40
TABLE = f"| {LONG} | {'wide ' * 30} |\n|---|---|\n| a | b |"
DOCUMENT = f"# {LONG}\n\n{TABLE}\n\n```\n{LONG}\n```\n\n`{LONG}`\n\n- {FROM_RIGHT}"
NO_PAGES = {CHANGES, "/ui/runs/{run_id}/documents/{stage}/download", *STATIC_FILES}
TEMPLATES = {path for method, path, _ in PAGES if method == "GET"} - NO_PAGES


@pytest.fixture
def admin(chromium: Browser, workspace: str) -> Iterator[Watched]:
    """A watched tab in which an admin with a long name is signed in."""
    with watched(chromium, workspace) as opened:
        opened.sign_in(key_of("a" * 64, "admin"))
        yield opened
    with transaction():
        execute("DELETE FROM saved_views")


def check_pages(tab: Watched, pages: dict[str, list[str]]) -> None:
    """Check the pages, which are given by their paths in the table of pages, in windows of each width."""
    wider = []
    for address in (each for addresses in pages.values() for each in addresses):
        tab.goto(address)
        for width in WIDTHS:
            tab.page.set_viewport_size({"width": width, "height": 800})
            if found := tab.find_wider():
                wider.append(f"{address} at {width} px: {found}")
    assert not wider, "\n".join(wider)


def test_no_empty_page_is_wider_than_its_window(admin: Watched) -> None:
    admin.expect_status(404, 422)
    pages = {each: [each] for each in TEMPLATES if "{" not in each}
    pages["/ui/operations/retry"] = ["/ui/operations/retry?code=worker_lost"]
    pages["/ui/runs/selection"] = ["/ui/runs/selection?action=cancel"]
    pages["/ui/runs/matching"] = ["/ui/runs/matching?action=cancel"]
    pages["nothing"] = [f"/ui/{LONG}", f"/ui/runs?workflow={LONG}", f"/sign-in?next=/{LONG}"]
    check_pages(admin, pages)


def test_no_page_of_awkward_text_is_wider_than_its_window(admin: Watched, writer: ModelServer) -> None:
    # Given: names without a space, text from right to left, emoji, a long request, a long error, a long reason
    brand = brands.create(
        {"name": LONG, "voice": FROM_RIGHT, "facts": [LONG, EMOJI], "forbidden_words": [LONG]}, actor=OPERATOR
    )
    project = projects.create({"name": LONG, "objective": LONG, "brand_id": brand.id}, actor=OPERATOR)
    writer.script = lambda body: refusal(400, "no", "E" * 600) if "FAIL" in str(body) else completion(DOCUMENT)
    failed = create("content_calendar", f"FAIL {FROM_RIGHT}", brand_id=brand.id).run.id
    texts = (LONG, EMOJI, "word " * 3999, FROM_RIGHT)
    runs = [create("landing_page", text, brand_id=brand.id).run.id for text in texts]
    for run_id in (failed, *runs):
        wait_until_still(run_id)
    waiting, stage = runs[0], ask_for_another_draft(runs[0])
    (last,) = queries.list_events(failed, after=0, limit=200)[-1:]
    queue_control.pause_queue(reason="r" * 500, actor=OPERATOR)
    queue_control.pause_provider("kimi", reason="p" * 500, actor=OPERATOR)
    # When, then
    some = f"run={waiting}&run={failed}"
    document, review = f"/ui/runs/{waiting}/documents/{stage}", f"/ui/reviews/{waiting}/{stage}"
    pages = {
        "/": ["/"],
        "/sign-in": ["/sign-in"],
        "/account": ["/account"],
        "/ui/runs": ["/ui/runs", f"/ui/runs?text={LONG}", f"/ui/runs?brand_id={brand.id}"],
        "/ui/runs/new": [f"/ui/runs/new?brand_id={brand.id}"],
        "/ui/runs/selection": [f"/ui/runs/selection?action=archive&{some}"],
        "/ui/runs/matching": [f"/ui/runs/matching?action=cancel&query={quote(f'brand_id={brand.id}')}"],
        "/ui/runs/{run_id}": [f"/ui/runs/{run_id}" for run_id in (failed, *runs)],
        "/ui/runs/{run_id}/retry": [f"/ui/runs/{failed}/retry"],
        "/ui/runs/{run_id}/fork": [f"/ui/runs/{waiting}/fork"],
        "/ui/runs/{run_id}/events/{event_id}": [f"/ui/runs/{failed}/events/{last.id}"],
        "/ui/runs/{run_id}/documents/{stage}": [document, f"{document}?view=raw", f"{document}?compare=1"],
        "/ui/reviews": ["/ui/reviews"],
        "/ui/reviews/{run_id}/{key}": [review, f"{review}?compare=1"],
        "/ui/brands": ["/ui/brands"],
        "/ui/brands/new": ["/ui/brands/new"],
        "/ui/brands/{id}": [f"/ui/brands/{brand.id}"],
        "/ui/brands/{id}/edit": [f"/ui/brands/{brand.id}/edit"],
        "/ui/projects": ["/ui/projects"],
        "/ui/projects/new": ["/ui/projects/new"],
        "/ui/projects/{id}": [f"/ui/projects/{project.id}"],
        "/ui/projects/{id}/edit": [f"/ui/projects/{project.id}/edit"],
        "/ui/operations": ["/ui/operations"],
        "/ui/operations/retry": ["/ui/operations/retry?code=llm_rejected"],
        "/ui/operations/audit": [f"/ui/operations/audit?actor={LONG}", "/ui/operations/audit"],
        "/ui/operations/keys": ["/ui/operations/keys"],
        "/ui/operations/sessions": ["/ui/operations/sessions"],
    }
    assert pages.keys() == TEMPLATES
    save_view(admin, "v" * 60)
    check_pages(admin, pages)


def ask_for_another_draft(run_id: UUID) -> str:
    """Request changes to the draft that waits, in long words; return its stage once there is another one."""
    (draft,) = queries.list_artifacts(run_id)
    lifecycle.request_changes_if_waiting(
        run_id, draft.stage, artifact_sha256=draft.sha256, feedback=LONG, actor=OPERATOR
    )
    wait_until_still(run_id)
    return draft.stage


def save_view(tab: Watched, name: str) -> None:
    """Save a view of the list of runs."""
    page = tab.goto("/ui/runs?status=failed")
    page.get_by_text("Save this view").click()
    page.get_by_label("Name of the view").fill(name)
    page.get_by_role("button", name="Save").click()
    page.get_by_role("link", name=name).wait_for()
