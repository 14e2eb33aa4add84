"""What is done with all runs that match the filters of the list, on whatever page they are."""

from __future__ import annotations

import re
from collections.abc import Sequence
from html import unescape
from urllib.parse import quote
from uuid import UUID

import pytest

from api.ui import sent_once
from api.ui.run_actions import ACTIONS
from tests.api.browsers import Browser, signed_in
from tests.api.client import Api
from tests.api.test_run_list_pages import failed
from tests.support.runs import create
from vm_webapp.db.pool import rows, transaction
from vm_webapp.errors import DatabaseBusy
from vm_webapp.ops import bulk
from vm_webapp.runs import queries

PATH = "/ui/runs/matching"


def look(action: str, query: str) -> str:
    """Return the address of the page that says how many there are."""
    return f"{PATH}?action={action}&query={quote(query)}"


def form_of(page: str) -> dict[str, str]:
    """Return the hidden fields of the page's form."""
    return {name: unescape(value) for name, value in re.findall(r'type="hidden" name="(\w+)" value="([^"]*)"', page)}


@pytest.fixture
async def ann(managed: Api) -> Browser:
    """An operator's browser."""
    return await signed_in(managed, "operator", "ann")


@pytest.fixture
def _few(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take three runs at once, in batches of two."""
    monkeypatch.setattr("api.ui.run_matching.MOST_AT_ONCE", 3)
    monkeypatch.setattr(sent_once, "BATCH", 2)


def statuses(runs: Sequence[UUID]) -> list[str]:
    """Return the status of each run."""
    return [queries.get_run(run).status for run in runs]


@pytest.mark.usefixtures("_few")
async def test_all_that_match_are_changed_in_batches_and_no_others(ann: Browser) -> None:
    runs = [create(request=f"number {n}").run.id for n in range(4)]
    other = create(request="another one").run.id
    ended = failed("number that failed")
    listed = (await ann.get("/ui/runs?text=number")).body.decode()
    assert 'name="all"' in listed
    start = await ann.get("/ui/runs/selection?action=cancel&all=yes&back=%2Fui%2Fruns%3Ftext%3Dnumber%26cursor%3Dx")
    assert (start.status, start.headers["Location"]) == (303, f"{PATH}?action=cancel&query=text%3Dnumber%26cursor%3Dx")
    page = (await ann.get(start.headers["Location"])).body.decode()
    assert "4 runs match. Nothing has changed yet." in page
    assert "the oldest 3; the button is then here again for the rest" in page
    later = create(request="number that came after the look").run.id
    form = form_of(page)
    sent = [await ann.post(PATH, **form) for _ in range(2)]
    assert {each.headers["Location"] for each in sent} == {f"{PATH}?action=cancel&query=text%3Dnumber&done=cancel.3.0"}
    assert statuses(runs) == ["canceled"] * 3 + ["queued"]
    page = (await ann.get(sent[0].headers["Location"])).body.decode()
    assert "3 canceled." in page
    assert "2 runs match." in page
    rest = form_of(page) | {"seen": form["seen"]}
    done = await ann.post(PATH, **rest)
    assert done.headers["Location"] == "/ui/runs?text=number&done=cancel.1.0"
    assert "1 canceled." in (await ann.get(done.headers["Location"])).body.decode()
    assert statuses([*runs, other, ended, later]) == ["canceled"] * 4 + ["queued", "failed", "queued"]
    with transaction():
        noted = rows("SELECT target FROM audit_entries WHERE action = 'run.cancel' ORDER BY id")
    assert [each["target"] for each in noted] == [f"run:{run}" for run in runs]


@pytest.mark.usefixtures("_few")
async def test_what_was_interrupted_goes_on_when_it_is_sent_again(
    ann: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = [failed(f"number {n}") for n in range(3)]
    form = form_of((await ann.get(look("retry", "status=failed"))).body.decode())
    batches: list[int] = []

    def retry(where: bulk.BulkFilter, **more: object) -> bulk.BulkResult:
        assert where.run_ids is not None
        batches.append(len(where.run_ids))
        if len(batches) == 2:
            raise DatabaseBusy("the server goes down")
        return bulk.retry_matching(where, **more)  # type: ignore[arg-type]

    monkeypatch.setattr("api.ui.run_matching.action_of", lambda _: ACTIONS["retry"]._replace(change=retry))
    assert (await ann.post(PATH, **form)).status == 503
    assert statuses(runs) == ["queued", "queued", "failed"]
    assert (await ann.post(PATH, **form)).status == 303
    assert batches == [2, 1, 1]
    assert statuses(runs) == ["queued"] * 3


@pytest.mark.parametrize("query", ["", "order=finished", "archived=yes", "status=lost", "nonsense=1"])
async def test_what_would_be_every_run_is_refused(ann: Browser, query: str) -> None:
    run = failed()
    page = (await ann.get(look("archive", query))).body.decode()
    assert "Without a filter this would be for every run." in page
    form = {"action": "archive", "query": query, "seen": "2999-01-01T00:00:00+00:00"}
    assert (await ann.post(PATH, **form)).status == 400
    assert queries.get_run(run).archived_at is None
    if not query:
        assert 'name="all"' not in (await ann.get("/ui/runs")).body.decode()


async def test_it_is_for_whom_the_api_admits(managed: Api) -> None:
    eve, vic = await signed_in(managed, "editor", "eve"), await signed_in(managed, "viewer", "vic")
    run = failed()
    seen = "2999-01-01T00:00:00+00:00"
    for browser, action in ((vic, "archive"), (eve, "cancel"), (eve, "retry")):
        assert (await browser.get(look(action, "status=failed"))).status == 403
        assert (await browser.post(PATH, action=action, query="status=failed", seen=seen)).status == 403
    assert (await eve.post(PATH, action="archive", query="status=failed", seen=seen)).status == 303
    assert queries.get_run(run).archived_at is not None
    assert "There is nothing to do" in (await eve.get(look("archive", "status=failed"))).body.decode()
    form = form_of((await eve.get(look("unarchive", "status=failed&archived=yes"))).body.decode())
    done = await eve.post(PATH, **form)
    assert done.headers["Location"] == "/ui/runs?status=failed&archived=yes&done=unarchive.1.0"
    assert queries.get_run(run).archived_at is None
    for wrong in ({"action": "delete"}, {"seen": "then"}, {"seen": ""}):
        assert (await eve.post(PATH, **form | wrong)).status == 400
