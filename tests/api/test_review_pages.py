"""Reviews without a browser's scripts: what the form does, what it refuses, and that nothing typed is lost."""

from __future__ import annotations

import re
from typing import Any
from uuid import UUID

import pytest

from api.schemas.reviews import MAX_CONTENT_CHARACTERS, MAX_FEEDBACK_CHARACTERS
from tests.api.browsers import Browser
from tests.api.client import Api
from tests.support.actors import OPERATOR
from tests.support.runs import create
from tests.support.work import finish_next
from vm_webapp.access.keys import create_key
from vm_webapp.runs import queries

DRAFT = "\n# Message\r\n\r\nBread by bicycle.\n"


def waiting(**options: Any) -> tuple[UUID, str]:
    """Return a run whose draft waits, and the path of its review."""
    run_id = create("landing_page", **options).run.id
    finish_next(run_id, DRAFT)
    return run_id, f"/ui/reviews/{run_id}/message"


async def fields_of(browser: Browser, path: str) -> dict[str, str]:
    """Return the fields of the form that approves, as a browser sends them unchanged."""
    page = (await browser.get(path)).body.decode()
    found = re.search(r'<textarea id="content"[^>]*>\n(.*?)</textarea>', page, re.DOTALL)
    hidden = dict(re.findall(r'<input type="hidden" name="(\w+)" value="([^"]*)"', page))
    assert found is not None
    text = found[1].replace("\r\n", "\n").replace("\n", "\r\n")
    return {**hidden, "content": text, "note": "", "decision": "approve"}


async def test_a_draft_that_nobody_has_edited_is_accepted_as_it_is(api: Api) -> None:
    run_id, path = waiting()
    browser = Browser(api)
    response = await browser.post(path, **await fields_of(browser, path))
    assert (response.status, response.headers["Location"]) == (303, f"/ui/runs/{run_id}")
    assert [each.version for each in queries.list_artifacts(run_id)] == [1]


async def test_an_edit_is_stored_and_the_next_draft_is_shown(api: Api) -> None:
    run_id, path = waiting()
    later, its_path = waiting()
    browser = Browser(api)
    response = await browser.post(path, **await fields_of(browser, path) | {"content": "# Mine\r\n\U0001f950"})
    assert response.headers["Location"] == f"{its_path}?decided=yes"
    assert queries.read_artifact(run_id, "message", version=2).content == "# Mine\n\U0001f950"
    assert "Your decision is kept" in (await browser.get(response.headers["Location"])).body.decode()
    assert queries.get_run(later).status == "waiting_approval"


async def test_a_second_click_decides_nothing_twice(api: Api) -> None:
    run_id, path = waiting()
    browser = Browser(api)
    fields = await fields_of(browser, path) | {"content": "# Mine"}
    first, second = [await browser.post(path, **fields) for _ in range(2)]
    assert first.headers["Location"] == second.headers["Location"]
    assert [each.version for each in queries.list_artifacts(run_id)] == [1, 2]


async def test_two_tabs_that_decide_about_one_draft_decide_once(api: Api) -> None:
    run_id, path = waiting()
    one, other = Browser(api), Browser(api)
    approving, refusing = await fields_of(one, path), await fields_of(other, path)
    assert (await one.post(path, **approving)).status == 303
    late = await other.post(path, **refusing | {"decision": "changes", "feedback": "My <b>long</b> remark"})
    assert late.status == 409
    assert "Nothing has been decided: the stage message is completed" in late.body.decode()
    assert "My &lt;b&gt;long&lt;/b&gt; remark" in late.body.decode()
    assert queries.read_remarks(run_id) == ()


async def test_a_preview_decides_nothing_and_keeps_what_was_typed(api: Api) -> None:
    run_id, path = waiting()
    browser = Browser(api)
    fields = await fields_of(browser, path) | {"content": "Some **bold** words", "decision": "preview"}
    page = (await browser.post(path, **fields)).body.decode()
    assert "Some <strong>bold</strong> words" in page
    assert "Some **bold** words</textarea>" in page
    assert queries.get_run(run_id).status == "waiting_approval"
    part = await browser.post("/ui/preview", content="<b>x</b> *y*\x00")
    assert part.body.decode() == "<p>&lt;b&gt;x&lt;/b&gt; <em>y</em></p>\n"


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"decision": "changes", "feedback": "  "}, "say what should change"),
        ({"decision": "changes", "feedback": "x" * (MAX_FEEDBACK_CHARACTERS + 1)}, "it may have 20,000"),
        ({"content": " \r\n "}, "the edited draft is empty"),
        ({"content": "a\x00b"}, "that is taken out below"),
        ({"decision": "perhaps"}, "say whether you approve"),
        ({"note": "n" * (MAX_FEEDBACK_CHARACTERS + 1)}, "it may have 20,000"),
    ],
    ids=["no feedback", "long feedback", "empty edit", "NUL", "no decision", "long note"],
)
async def test_what_cannot_be_kept_is_refused_and_shown_again(api: Api, wrong: dict[str, str], words: str) -> None:
    run_id, path = waiting()
    browser = Browser(api)
    response = await browser.post(path, **await fields_of(browser, path) | wrong)
    assert response.status == 422
    assert words in response.body.decode()
    assert queries.get_run(run_id).status == "waiting_approval"


@pytest.mark.parametrize("letter", ["ж", "\n"])
async def test_a_text_that_the_api_takes_is_taken_from_the_form(api: Api, letter: str) -> None:
    run_id, path = waiting()
    browser = Browser(api)
    content = "ж".ljust(MAX_CONTENT_CHARACTERS - 1, letter) + "ж"
    sent = {"content": content.replace("\n", "\r\n")}
    assert (await browser.post_long("/ui/preview", **sent)).status == 200
    assert (await browser.post_long(path, **await fields_of(browser, path) | sent)).status == 303
    assert queries.read_artifact(run_id, "message", version=2).content == content


async def test_a_text_that_is_too_long_is_refused_with_the_way_back_to_it(api: Api) -> None:
    run_id, path = waiting()
    browser = Browser(api)
    fields = await fields_of(browser, path)
    longer = await browser.post_long(path, **fields | {"content": "ж" * (MAX_CONTENT_CHARACTERS + 1)})
    assert longer.status == 422
    assert "it may have 400,000" in longer.body.decode()
    assert "жжж</textarea>" in longer.body.decode()
    larger = await browser.post_long(path, **fields | {"content": "麵" * MAX_CONTENT_CHARACTERS})
    assert larger.status == 413
    assert "it still has what you typed" in larger.body.decode()
    assert queries.get_run(run_id).status == "waiting_approval"


async def test_whoever_may_not_decide_sees_why_and_no_form(managed: Api) -> None:
    viewer, ann = Browser(managed), Browser(managed)
    await viewer.sign_in(create_key("vic", actor=OPERATOR, role="viewer").secret)
    await ann.sign_in(create_key("ann", actor=OPERATOR, role="editor").secret)
    _, path = waiting()
    page = (await viewer.get(path)).body.decode()
    assert "an editor decides" in page
    assert 'name="decision"' not in page
    assert (await viewer.post(path, decision="approve")).status == 403
    assert (await viewer.post("/ui/preview", content="x")).status == 403

    started = await ann.post("/ui/runs", workflow="landing_page", request="A page", four_eyes="yes")
    own = started.headers["Location"].rpartition("/")[2]
    finish_next(own)
    page = (await ann.get(f"/ui/reviews/{own}/message")).body.decode()
    assert "somebody with another key decides" in page
    assert 'name="decision"' not in page
    (draft,) = queries.list_artifacts(UUID(own))
    late = await ann.post(f"/ui/reviews/{own}/message", decision="approve", artifact_sha256=draft.sha256)
    assert late.status == 403
    assert "Nothing has been decided: this run asks for four eyes" in late.body.decode()


async def test_a_form_of_another_site_decides_nothing(managed: Api) -> None:
    browser = Browser(managed)
    await browser.sign_in(create_key("ann", actor=OPERATOR, role="editor").secret)
    run_id, path = waiting()
    fields = await fields_of(browser, path)
    response = await browser.post(path, {"Sec-Fetch-Site": "cross-site"}, **fields)
    assert response.status == 403
    assert queries.get_run(run_id).status == "waiting_approval"


async def test_what_is_not_there_is_not_found(api: Api) -> None:
    run_id, path = waiting()
    browser = Browser(api)
    for wrong in (f"/ui/reviews/{run_id}/copy", f"/ui/reviews/{run_id}/x", "/ui/reviews/1/x", f"{path}?version=7"):
        assert (await browser.get(wrong)).status == 404, wrong
