"""The page of all runs: filters in its address, wrong ones beside their fields, saved views, many runs at once."""

from __future__ import annotations

import re
from html import unescape
from urllib.parse import quote, urlencode
from uuid import UUID, uuid4

import pytest

from api.ui.run_filters import DAYS
from tests.api.browsers import Browser, signed_in
from tests.api.client import Api
from tests.support.actors import OPERATOR
from tests.support.runs import create
from tests.support.work import claim_next, finish_next
from vm_webapp.errors import InvalidInput
from vm_webapp.ops import bulk
from vm_webapp.ops.bulk import BulkFilter
from vm_webapp.runs import lifecycle, queries, saved_views
from vm_webapp.runs.queries import finding
from vm_webapp.runs.states import Failure

BROKEN = Failure("llm_bad_request", "HTTP 400", permanent=True)


def rows_of(page: str) -> list[str]:
    """Return the ids of the runs that a page lists."""
    return re.findall(r'<li id="run-([0-9a-f-]+)"', page)


def failed(request: str = "one that fails") -> UUID:
    """Return a failed run."""
    run_id = create(request=request).run.id
    lifecycle.fail_attempt_if_held(claim_next(run_id), BROKEN, jitter=0)
    return run_id


async def test_the_address_holds_filters_and_order(api: Api) -> None:
    plan = str(create("plan_90d", "A plan for a bakery").run.id)
    page = str(create("landing_page", "A page for a clinic").run.id)
    over = str(failed())
    browser = Browser(api)
    for query, runs in {
        "": [over, page, plan],
        "text=Bakery": [plan],
        "status=active&order=created": [page, plan],
        "status=failed": [over],
        "workflow=plan_90d&text=": [plan],
        "order=finished": [over],
        "created_from=2020-01-01&created_to=2999-12-31": [over, page, plan],
        "created_to=2020-01-01": [],
        "finished_from=2020-01-01": [over],
        "archived=yes&utm_source=mail": [over, page, plan],
    }.items():
        text = (await browser.get(f"/ui/runs?{query}")).body.decode()
        assert rows_of(text) == runs, query
    assert "1 failed" in text


async def test_a_request_in_which_nothing_can_be_seen_has_a_link_all_the_same(api: Api) -> None:
    run_id = create(request="\u200b").run.id
    page = (await Browser(api).get("/ui/runs")).body.decode()
    (words,) = re.findall(rf'<a href="/ui/runs/{run_id}"[^>]*>([^<]*)</a>', page)
    assert words.strip() == r"\u200b"


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("status=lost", "It can be active, queued"),
        ("created_from=yesterday", "Give a day as 2026-11-25."),
        ("finished_to=9999-12-31", "Give a day as 2026-11-25."),
        ("brand_id=x", "There is none of that id."),
        ("order=random", "It can be created, finished."),
        ("text=%21%3F", "There is no word in it to search for."),
        ("text=%00", "NUL"),
        (f"text={'x' * 201}", "At most 200 characters; this has 201."),
        (f"workflow={'x' * 1001}", "At most 64 characters; this has 1,001."),
        ("archived=no", "It can be yes."),
    ],
)
async def test_a_wrong_filter_is_explained_beside_its_field(api: Api, query: str, words: str) -> None:
    create()
    response = await Browser(api).get(f"/ui/runs?{query}")
    text = response.body.decode()
    assert response.status == 422
    assert "Nothing is listed" in text
    assert words in text
    assert rows_of(text) == []
    (name,) = re.findall(r'id="(\w+)-wrong"', text)
    assert name == query.partition("=")[0]


async def test_pages_lead_on_and_keep_their_filters(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("api.ui.run_list.LISTED", 2)
    wanted = [str(create(request=f"number {number}").run.id) for number in range(3)][::-1]
    create("plan_90d")
    browser = Browser(api)
    first = (await browser.get("/ui/runs?text=number&workflow=content_calendar")).body.decode()
    (link,) = re.findall(r'<a href="([^"]+)" rel="next">', first)
    second = (await browser.get(link.replace("&amp;", "&"))).body.decode()
    assert rows_of(first) + rows_of(second) == wanted
    assert 'rel="next"' not in second
    assert 'href="/ui/runs?text=number&amp;workflow=content_calendar">First page' in second


async def test_views_are_saved_for_the_person_and_removed(managed: Api) -> None:
    ann, bob = await signed_in(managed, "viewer", "ann"), await signed_in(managed, name="bob")
    form = {"name": "My failures", "query": "order=finished&status=failed&nonsense=1"}
    saved = await ann.post("/ui/views", **form)
    assert (saved.status, saved.headers["Location"]) == (303, "/ui/runs?status=failed&order=finished")
    text = (await ann.get("/ui/runs")).body.decode()
    assert '<a href="/ui/runs?status=failed&amp;order=finished">My failures</a>' in text
    assert "My failures" not in (await bob.get("/ui/runs")).body.decode()
    for wrong, words in {
        "My failures": "You have a view of that name.",
        " ": "Give the view a name.",
        "x" * 61: "At most 60 characters; this has 61.",
        "a\x00b": "The name",
    }.items():
        again = await ann.post("/ui/views", **form | {"name": wrong})
        assert again.status == 422
        assert words in again.body.decode()
    assert (await ann.post("/ui/views", name="all", query="")).status == 422
    long = await ann.post("/ui/views", name="long", query=f"workflow={'x' * 1_000_000}")
    assert long.status == 422
    assert "Nothing is saved: one filter needs another look." in long.body.decode()
    full = {name: f"{uuid4()}" for name in ("brand_id", "project_id")} | dict.fromkeys(DAYS, "2026-11-25")
    full |= {"text": "\U0001f600a" * 100, "workflow": "\U0001f600" * 64, "status": "waiting_approval"}
    kept = await ann.post("/ui/views", name="as long as can be", query=urlencode(full | {"order": "finished"}))
    assert kept.status == 303
    (path,) = re.findall(r'action="(/ui/views/[^"]+/delete)"', text)
    await bob.post(path)
    assert "My failures" in (await ann.get("/ui/runs")).body.decode()
    assert (await ann.post(path)).status == 303
    assert "My failures" not in (await ann.get("/ui/runs")).body.decode()


async def test_many_runs_are_changed_after_a_page_that_says_which(managed: Api) -> None:
    ann = await signed_in(managed, "operator", "ann")
    queued, over = create().run.id, failed()
    done = create().run.id
    finish_next(done)
    finish_next(done)
    runs = f"{queued} {over} {done}"
    selected = "&".join(f"run={id}" for id in runs.split())
    for action, changing, count in (("cancel", queued, 1), ("retry", over, 1), ("archive", done, 2)):
        path = f"/ui/runs/selection?action={action}&{selected}&back={quote('/ui/runs?order=finished')}"
        text = (await ann.get(path)).body.decode()
        assert "Nothing has changed yet." in text
        (sent,) = re.findall(r'name="runs" value="([^"]*)"', text)
        assert str(changing) in sent.split()
        assert len(sent.split()) == count
        (once,) = re.findall(r'name="once" value="([^"]*)"', text)
        form = {"action": action, "runs": sent, "once": once, "back": "/ui/runs?order=finished"}
        for _ in range(2):
            answer = await ann.post("/ui/runs/selection", **form)
            assert (answer.status, answer.headers["Location"]) == (
                303,
                f"/ui/runs?order=finished&done={action}.{count}.0",
            )
    assert [queries.get_run(id).status for id in (queued, over, done)] == ["canceled", "queued", "completed"]
    assert queries.get_run(done).archived_at is not None
    chip = '<span class="chip">archived</span>'
    assert chip in (await ann.get(f"/ui/runs/{done}")).body.decode()
    assert chip not in (await ann.get(f"/ui/runs/{over}")).body.decode()
    text = (await ann.get(answer.headers["Location"])).body.decode()
    assert "2 archived" in text
    assert rows_of(text) == []
    assert "There is nothing to do" in (await ann.get(f"/ui/runs/selection?action=retry&run={done}")).body.decode()


async def test_a_retry_brings_an_archived_run_back(api: Api) -> None:
    over = failed()
    bulk.archive_matching(BulkFilter(run_ids=(over,)), archived=True, actor=OPERATOR)
    lifecycle.retry_run_if_failed(over, from_stage=None, actor=OPERATOR)
    assert queries.get_run(over).archived_at is None


async def test_a_selection_is_for_whom_the_api_admits_and_of_this_site(managed: Api) -> None:
    ann, vic = await signed_in(managed, "operator", "ann"), await signed_in(managed, "viewer", "vic")
    eve = await signed_in(managed, "editor", "eve")
    run_id = create().run.id
    path = f"/ui/runs/selection?action=cancel&run={run_id}"
    assert (await vic.get(path)).status == (await eve.get(path)).status == 403
    assert (await eve.post("/ui/runs/selection", action="cancel", runs=str(run_id))).status == 403
    assert queries.get_run(run_id).status == "queued"
    assert (await eve.get(f"/ui/runs/selection?action=archive&run={run_id}")).status == 200
    offered = re.findall(r'name="action" value="(\w+)"', (await eve.get("/ui/runs")).body.decode())
    assert offered == ["archive"]
    assert "checkbox" not in "".join(re.findall(r"<li id=.*", (await vic.get("/ui/runs")).body.decode()))
    text = (await ann.get(f"{path}&back=//evil.example/")).body.decode()
    assert "evil.example" not in re.sub(r'hx-get="[^"]*"', "", text)
    for wrong in ("action=delete", "action=cancel&run=x", "action=cancel" + f"&run={run_id}0"):
        assert (await ann.get(f"/ui/runs/selection?{wrong}")).status == 400
    assert "No run was selected." in (await ann.get("/ui/runs/selection?action=cancel")).body.decode()


async def test_a_page_that_took_a_bounded_look_says_so_and_leads_further(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(finding, "LOOKED_AT", 1)
    monkeypatch.setattr(finding, "MOST_COST", 0)
    old, _, new = (str(create(request=text).run.id) for text in ("An old bakery", "A clinic", "A new bakery"))
    browser = Browser(api)
    text = (await browser.get("/ui/runs?text=bakery")).body.decode()
    assert rows_of(text) == [new]
    assert "Only runs that were created since <time" in text
    further = re.search(r'<a href="([^"]*)"[^>]*>Search all', text)
    assert further is not None
    text = (await browser.get(unescape(further[1]))).body.decode()
    assert rows_of(text) == [new, old]
    assert "Only runs" not in text
    assert "change from:#changes" not in text  # a long look is not taken again and again
    text = (await browser.get("/ui/runs?text=clinic&order=finished")).body.decode()
    assert "No run matches" in text
    text = (await browser.get("/ui/runs?text=bakery&created_to=2020-01-01")).body.decode()
    assert "No run matches" in text


def test_a_view_has_a_limit_of_its_own() -> None:
    with pytest.raises(InvalidInput, match="These filters are too long to be saved: at most 4,000 characters"):
        saved_views.save_view("ann", "long", "x" * 4_001)
