"""What people, models and files say is shown as text, whatever it is."""

from __future__ import annotations

import re
from typing import Any

from playwright.sync_api import Page, expect

from tests.browser.attacks import STRINGS
from tests.browser.watched import Watched, follows
from tests.fakes.behaviours import GOOD, Behaviour, completion, refusal
from tests.fakes.model_server import ModelServer
from tests.support.actors import OPERATOR
from tests.support.runs import create, wait_until_still
from vm_webapp.context import brands
from vm_webapp.ops import queue_control
from vm_webapp.runs import lifecycle, queries

HARMFUL = "script, img, iframe, svg, object, embed, base, link, meta, input, form, video, math, template, [hx-get]"


def harmless(page: Page, region: str) -> None:
    """Check that a part of a page holds nothing but what its template has."""
    assert page.evaluate("window.harmed") is None
    assert page.locator(region).locator(HARMFUL).count() == 0
    assert page.locator("base").count() == 0


def test_fifty_attacks_as_request_brand_draft_and_models_error_are_text(tab: Watched, writer: ModelServer) -> None:
    def script(body: dict[str, Any]) -> Behaviour:
        found = re.search(r"FAIL (\d+)", str(body["messages"]))
        return refusal(400, "invalid_request_error", STRINGS[int(found[1])]) if found else GOOD

    writer.script = script
    runs = []
    for number, text in enumerate(STRINGS[:17]):
        brand = brands.create({"name": STRINGS[-number - 1]}, actor=OPERATOR)
        runs.append(create("landing_page", text, brand_id=brand.id))
    runs += [create(request=f"FAIL {number}") for number in range(17, 34)]
    for run in runs:
        wait_until_still(run.run.id)
    queue_control.pause_queue(reason=STRINGS[0], actor=OPERATOR)
    for text in STRINGS[34:]:
        create(request=text)
    page = tab.goto("/")
    follows(page)
    expect(page.get_by_role("region", name="Needs you").get_by_role("listitem")).to_have_count(17)
    expect(page.get_by_role("region", name="In progress").get_by_role("listitem")).to_have_count(16)
    expect(page.get_by_role("region", name="Failed in the last 24 hours").get_by_role("listitem")).to_have_count(17)
    harmless(page, "#live")
    expect(page.locator("#live")).to_contain_text(STRINGS[1])
    expect(page.locator("#status")).to_contain_text(STRINGS[0])
    tab.check()
    queue_control.resume_queue(actor=OPERATOR)


def test_attacks_in_a_form_that_comes_back_and_in_a_workflows_file_are_text(tab: Watched) -> None:
    for text in STRINGS:
        brands.create({"name": text}, actor=OPERATOR)
    page = tab.goto("/ui/runs/new")
    expect(page.get_by_label("Brand").get_by_role("option")).to_have_count(51)
    expect(page.get_by_text("</label><script>window.harmed = 1</script>")).to_have_count(1)
    tab.expect_status(422)
    for text in ("\n".join(STRINGS), "\0".join(STRINGS)):
        page.evaluate("document.querySelector('form').noValidate = true")
        page.evaluate("(text) => (document.getElementById('request').value = text)", text)
        page.get_by_role("button", name="Start the run").click()
        expect(page.get_by_text("Pick a workflow.")).to_be_visible()
        assert page.evaluate("window.harmed") is None
        assert page.locator("main script, main img, main iframe, main svg").count() == 0
        assert page.get_by_label("What do you want?").input_value() == text.replace("\0", "")


def test_attacks_in_a_run_its_documents_and_its_review_are_text(tab: Watched, writer: ModelServer) -> None:
    brand = brands.create(
        {"name": STRINGS[0], "facts": list(STRINGS), "forbidden_words": list(STRINGS)}, actor=OPERATOR
    )
    writer.enqueue(completion("\n\n".join(STRINGS)), completion("\n\n".join(reversed(STRINGS))))
    run_id = create("landing_page", "\n".join(STRINGS), brand_id=brand.id).run.id
    wait_until_still(run_id)
    (draft,) = queries.list_artifacts(run_id)
    remark = "\n".join(STRINGS)
    lifecycle.request_changes_if_waiting(
        run_id, draft.stage, artifact_sha256=draft.sha256, feedback=remark, actor=OPERATOR
    )
    wait_until_still(run_id)
    document, review = f"/ui/runs/{run_id}/documents/message", f"/ui/reviews/{run_id}/message"
    for path, region in {
        f"/ui/runs/{run_id}": ".timeline",
        f"/ui/runs/{run_id}/fork": "#from_stage",
        document: "article.document",
        f"{document}?view=raw": ".document",
        f"{document}?compare=1": ".diff",
        review: "article.document",
        f"{review}?compare=1": "aside",
    }.items():
        page = tab.goto(path)
        harmless(page, region)
        tab.check()
    page.locator("#edit summary").click()
    page.get_by_label("Text").fill("\n\n".join(STRINGS) + "\n\n**seen**")
    expect(page.locator("#preview strong").last).to_have_text("seen")
    harmless(page, "#preview")


def test_attacks_in_an_address_are_text(tab: Watched) -> None:
    tab.expect_status(404)
    for text in ("<script>window.harmed=1</script>", '"onmouseover=window.harmed=1', "%00", "{{7*7}}"):
        page = tab.goto(f"/ui/{text}?next={text}")
        expect(page.get_by_role("heading", level=1)).to_have_text("Not found")
        assert page.evaluate("window.harmed") is None
