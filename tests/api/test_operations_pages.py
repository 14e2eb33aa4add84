"""The pages of operators and admins, as browsers use them: what they show, what they change, and for whom."""

from __future__ import annotations

import asyncio
import re
from typing import get_args
from uuid import UUID, uuid4

import pytest

from tests.api.browsers import Browser, signed_in
from tests.api.client import Api, Response
from tests.support.actors import OPERATOR
from tests.support.runs import create, read
from tests.support.work import claim_next
from vm_webapp.access.keys import list_keys
from vm_webapp.access.roles import Role
from vm_webapp.db.bundle import bundled_ids
from vm_webapp.db.pool import execute, transaction
from vm_webapp.fleet.heartbeats import Heartbeat, WorkerIdentity, write_heartbeat
from vm_webapp.ops import queue_control
from vm_webapp.ops.health import Health, HealthChecker
from vm_webapp.runs import lifecycle, queries
from vm_webapp.runs.pauses import read_pauses
from vm_webapp.runs.states import Failure

PAGES = ("/ui/operations", "/ui/operations/retry?code=llm_timeout")
FOR_ADMINS = ("/ui/operations/audit", "/ui/operations/keys", "/ui/operations/sessions")


@pytest.fixture
async def operator(managed: Api) -> Browser:
    """A browser in which an operator is signed in."""
    return await signed_in(managed, "operator")


@pytest.fixture
async def admin(managed: Api) -> Browser:
    """A browser in which an admin is signed in."""
    return await signed_in(managed, "admin")


def text(page: Response) -> str:
    return page.body.decode()


def failed_run(code: str) -> UUID:
    """Return a run whose first stage has failed for good."""
    held = claim_next(create().run.id)
    lifecycle.fail_attempt_if_held(held, Failure(code=code, message="it did not work", permanent=True), jitter=0)
    return held.run_id


@pytest.mark.parametrize("role", get_args(Role))
async def test_each_page_is_for_those_who_may_and_the_others_see_no_door(managed: Api, role: Role) -> None:
    browser = await signed_in(managed, role)
    home = text(await browser.get("/"))
    for pages, roles in ((PAGES, ("operator", "admin")), (FOR_ADMINS, ("admin",))):
        for page in pages:
            assert (await browser.get(page)).status == (200 if role in roles else 403), page
    assert ('href="/ui/operations"' in home) == (role in ("operator", "admin"))


async def test_the_queue_is_paused_with_a_reason_and_resumed(operator: Browser) -> None:
    paused = await operator.post("/ui/operations/queue/pause", reason="the model <misbehaves>")
    assert (paused.status, paused.headers["Location"]) == (303, "/ui/operations")
    page = text(await operator.get("/ui/operations"))
    assert "by key:operator: the model &lt;misbehaves&gt;" in page
    assert (await operator.post("/ui/operations/queue/resume")).status == 303
    with transaction():
        assert read_pauses().queue is None


async def test_what_is_said_beside_a_ready_verdict_is_shown(operator: Browser, monkeypatch: pytest.MonkeyPatch) -> None:
    redis = {"status": "degraded", "note": "Redis <takes> no hints"}
    verdict = Health({"llm": {"status": "ok"}, "worker": {"status": "ok"}, "redis": redis}, ())
    monkeypatch.setattr(HealthChecker, "latest", lambda checker: verdict)
    page = text(await operator.get("/ui/operations"))
    assert "Work can progress." in page
    assert "redis: Redis &lt;takes&gt; no hints" in page
    await operator.post("/ui/operations/queue/pause")
    page = text(await operator.get("/ui/operations"))
    assert "Work can progress." not in page
    assert "The queue is paused: stages that run go on" in page


@pytest.mark.parametrize("reason", ["x" * 501, "a\0b"])
async def test_a_reason_that_cannot_be_stored_pauses_nothing(operator: Browser, reason: str) -> None:
    assert (await operator.post("/ui/operations/queue/pause", reason=reason)).status in (400, 422)
    with transaction():
        assert read_pauses().queue is None


async def test_a_provider_is_paused_and_resumed(operator: Browser) -> None:
    write_heartbeat(WorkerIdentity(uuid4(), "kimi", 4), Heartbeat("working", 0))
    await operator.post("/ui/operations/providers/kimi/pause", reason="too dear")
    with transaction():
        pause = read_pauses().providers["kimi"]
    assert (pause.until, pause.reason) == (None, "key:operator: too dear")
    assert "Resume kimi" in text(await operator.get("/ui/operations"))
    await operator.post("/ui/operations/providers/kimi/resume")
    with transaction():
        assert read_pauses().providers == {}
    noted = read("SELECT action FROM audit_entries WHERE starts_with(action, 'provider') ORDER BY id")
    assert [each["action"] for each in noted] == ["provider.pause", "provider.resume"]
    assert (await operator.post("/ui/operations/providers/nobody/pause")).status == 404


async def test_what_failed_is_grouped_and_retried_after_a_look(operator: Browser) -> None:
    failed = [failed_run("llm_refused") for _ in range(3)]
    other = failed_run("llm_empty_answer")
    assert "3 runs: llm_refused</a>" in text(await operator.get("/ui/operations"))
    page = text(await operator.get("/ui/operations/retry?code=llm_refused"))
    assert "3 runs have failed for this reason" in page
    assert queries.get_run(failed[0]).status == "failed"
    (token,) = re.findall(r'name="once" value="([\w-]+)"', page)
    sent = [await operator.post("/ui/operations/retry", code="llm_refused", once=token) for _ in range(2)]
    assert [each.status for each in sent] == [303, 303]
    assert sent[0].headers["Location"] == "/ui/operations/retry?code=llm_refused&changed=3&busy=0"
    done = text(await operator.get(sent[0].headers["Location"]))
    assert "3 runs were put back to work." in done
    assert "No run has failed for this reason." in done
    assert {queries.get_run(run_id).status for run_id in failed} == {"queued"}
    assert queries.get_run(other).status == "failed"


@pytest.mark.parametrize("code", ["", "no such reason", "<b>", "%00", "x" * 101])
async def test_a_reason_that_is_none_is_not_found(operator: Browser, code: str) -> None:
    assert (await operator.get(f"/ui/operations/retry?code={code.replace(' ', '+')}")).status == 404


async def test_the_last_hours_are_drawn_and_said(operator: Browser) -> None:
    with transaction():
        execute(
            "INSERT INTO queue_history (at, queued, due, running, oldest_due_seconds, workers, slots, in_flight,"
            " desired_workers, reason) SELECT now() - n * interval '10 min', 9, n, 7, 6 * n, 2, 8, 7, 3, 'work'"
            " FROM generate_series(1, 5) n"
        )
    page = text(await operator.get("/ui/operations"))
    assert "wait: 6 s now, 30 s at most" in page
    assert page.count("<polyline") >= 4
    assert "running (solid): 2 now, 2 at most" in page


async def test_migrations_are_listed_with_the_command_that_takes_the_newest_back(operator: Browser) -> None:
    page = text(await operator.get("/ui/operations"))
    *_, before, newest = bundled_ids()
    assert f"{newest}: applied" in page
    assert f"python -m vm_webapp migrate down --to {before}" in page


async def test_a_second_click_makes_no_key_and_says_what_the_first_did(admin: Browser) -> None:
    (once,) = re.findall(r'name="once" value="([\w-]+)"', text(await admin.get("/ui/operations/keys")))
    form = {"name": "ben", "role": "editor", "lasts": "30", "once": once}
    first, second = await asyncio.gather(*(admin.post("/ui/operations/keys", **form) for _ in range(2)))
    if first.status == 409:
        first, second = second, first
    assert (first.status, 'id="secret"' in text(first)) == (201, True)
    page = text(second)
    assert second.status == 409
    assert "The key of ben is made, once." in page
    assert "revoke ben below, and make a new key" in page
    assert 'id="key-ben"' in page
    assert 'id="secret"' not in page
    assert [each.name for each in list_keys() if each.name == "ben"] == ["ben"]
    other = await admin.post("/ui/operations/keys", **form | {"name": "cleo"})
    page = text(other)
    assert other.status == 409
    assert "has made the key of ben already, so nothing was made now" in page
    assert 'value="cleo"' in page
    assert "cleo" not in [each.name for each in list_keys()]
    (again,) = re.findall(r'name="once" value="([\w-]+)"', page)
    assert (await admin.post("/ui/operations/keys", **form | {"name": "cleo", "once": again})).status == 201


async def test_a_key_is_made_shown_once_and_revoked(admin: Browser) -> None:
    made = await admin.post("/ui/operations/keys", name="ben", role="editor", lasts="30")
    (secret,) = re.findall(r'id="secret"[^>]*>(vmk_\S+)</code>', text(made))
    assert (made.status, made.headers["Cache-Control"]) == (201, "no-store")
    assert secret not in text(await admin.get("/ui/operations/keys"))
    (key,) = [each for each in list_keys() if each.name == "ben"]
    assert (key.role, key.state) == ("editor", "active")
    wrong = await admin.post("/ui/operations/keys", name="ben", role="editor", lasts="")
    assert (wrong.status, "There is a key named ben already" in text(wrong)) == (422, True)
    for name, role, lasts in (("a b", "editor", ""), ("c", "king", ""), ("c", "viewer", "5")):
        assert (await admin.post("/ui/operations/keys", name=name, role=role, lasts=lasts)).status == 422
    assert (await admin.post(f"/ui/operations/keys/{key.id}/revoke")).status == 303
    assert (await admin.post(f"/ui/operations/keys/{key.id}/revoke")).status == 404
    assert "ben (editor): revoked" in text(await admin.get("/ui/operations/keys"))


async def test_an_admin_ends_the_session_of_another(managed: Api, admin: Browser) -> None:
    ann = await signed_in(managed, "editor")
    page = text(await admin.get("/ui/operations/sessions"))
    assert page.count("<li>") == 2
    (theirs,) = read("SELECT s.id FROM sessions s JOIN api_keys k ON k.id = key_id WHERE k.name = 'editor'")
    assert (await admin.post(f"/ui/operations/sessions/{theirs['id']}/end")).status == 303
    assert (await ann.get("/account")).status == 303
    assert (await admin.post("/ui/operations/sessions/none/end")).status == 404


async def test_the_audit_trail_is_searched_and_paged(admin: Browser) -> None:
    for number in range(60):
        queue_control.pause_queue(reason=str(number), actor=OPERATOR)
    page = text(await admin.get("/ui/operations/audit?action=queue.pause"))
    assert page.count("<td>queue.pause</td>") == 50
    (older,) = re.findall(r'href="(/ui/operations/audit\?[^"]+)" rel="next"', page)
    assert text(await admin.get(older.replace("&amp;", "&"))).count("<td>queue.pause</td>") == 10
    for address in ("/ui/operations/audit?action=queue.pause", older):
        assert f'hx-get="{address}"' in text(await admin.get(address.replace("&amp;", "&")))
    assert "Nothing." in text(await admin.get("/ui/operations/audit?actor=nobody"))
    assert (await admin.get("/ui/operations/audit?result=maybe")).status == 422
    assert (await admin.get("/ui/operations/audit?actor=%00")).status == 422


async def test_a_banner_leads_those_who_may_to_the_remedy(managed: Api, operator: Browser) -> None:
    queue_control.pause_queue(reason=None, actor=OPERATOR)
    assert "Go to operations" in text(await operator.get("/"))
    assert "Go to operations" not in text(await (await signed_in(managed, "viewer")).get("/"))
