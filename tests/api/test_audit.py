"""The audit trail over HTTP: every change and every refusal leaves an entry, and GET /audit finds it."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Any, NamedTuple

import pytest

from api.routes.table import ROUTES
from tests.api.client import NEW_RUN, Api, until
from tests.api.conftest import TOKEN
from tests.fakes.tcp_proxy import Proxy
from tests.support.actors import OPERATOR
from tests.support.audit import ANN, add, entries, seal_all
from tests.support.fleet import change
from tests.support.runs import create, read
from tests.support.work import claim_next, finish_next
from vm_webapp.access.audit import reading
from vm_webapp.access.keys import create_key
from vm_webapp.db.pool import jsonb
from vm_webapp.ops import queue_control
from vm_webapp.runs import lifecycle
from vm_webapp.runs.states import Failure

SECRET = "a-text-that-belongs-to-a-document"
DRAFT = "# A draft"
DIGEST = hashlib.sha256(DRAFT.encode()).hexdigest()


class Attempt(NamedTuple):
    """A request that changes something, and what its entry says."""

    path: str
    body: dict[str, Any]
    action: str
    target: str
    headers: Mapping[str, str] = MappingProxyType({})


def failed_run() -> str:
    """Return the id of a run that has failed."""
    run_id = create().run.id
    lifecycle.fail_attempt_if_held(claim_next(run_id), Failure("x", "x", permanent=True), jitter=1.0)
    return str(run_id)


def waiting_run() -> str:
    """Return the id of a run whose first draft waits."""
    run_id = create("landing_page").run.id
    finish_next(run_id, DRAFT)
    return str(run_id)


def stored(table: str) -> str:
    """Return the id of a new brand or project."""
    change(f"INSERT INTO {table} (id, name) VALUES (gen_random_uuid(), 'One')")
    return str(read(f"SELECT id FROM {table} ORDER BY created_at DESC LIMIT 1")[0]["id"])


def of_run(path: str, action: str, run_id: str, **body: Any) -> Attempt:
    """Return an attempt on a run."""
    return Attempt(path.format(run_id), body, action, f"run:{run_id}")


def of_resource(noun: str, verb: str) -> Attempt:
    """Return an attempt on a stored brand or project."""
    id = stored(f"{noun}s")
    path = f"/{noun}s/{id}{'/archive' if verb == 'archive' else ''}"
    body, headers = ({"name": SECRET}, {"If-Match": '"1"'}) if verb == "change" else ({}, {})
    return Attempt(path, body, f"{noun}.{verb}", f"{noun}:{id}", headers)


def paused_queue() -> Attempt:
    """Return the resumption of a queue that is paused."""
    queue_control.pause_queue(reason=None, actor=OPERATOR)
    return Attempt("/queue/resume", {}, "queue.resume", "queue:stages")


def paused_provider() -> Attempt:
    """Return the resumption of a provider that is paused."""
    change("INSERT INTO providers (name, paused_at, reason) VALUES ('kimi', now(), %(reason)s)", reason=jsonb({}))
    return Attempt("/providers/kimi/resume", {}, "provider.resume", "provider:kimi")


def of_many(path: str, action: str, run_id: str) -> Attempt:
    """Return an attempt on all runs that match, of which there is one."""
    workflow = read("SELECT workflow FROM runs WHERE id = %(id)s", id=run_id)[0]["workflow"]
    return Attempt(path, {"workflow": workflow}, action, f"run:{run_id}")


def archived_run() -> str:
    """Return the id of an archived run."""
    run_id = failed_run()
    change("UPDATE runs SET archived_at = now() WHERE id = %(id)s", id=run_id)
    return run_id


def session_of_the_key() -> str:
    """Return the id of a new session of the one key there is."""
    change(
        "INSERT INTO sessions (id, secret_sha256, key_id)"
        " SELECT gen_random_uuid(), uuid_send(gen_random_uuid()), id FROM api_keys"
    )
    return str(read("SELECT id FROM sessions")[0]["id"])


def session_to_end(path: str) -> Attempt:
    """Return the end of a session of the one key there is."""
    id = session_of_the_key()
    return Attempt(path.format(id), {}, "session.end", f"session:{id}")


# An operation that changes something and is not here fails the test below.
CHANGES: dict[str, Callable[[], Attempt]] = {
    "create_run": lambda: Attempt("/runs", NEW_RUN | {"request": SECRET}, "run.create", "run:"),
    "cancel_run": lambda: of_run("/runs/{}/cancel", "run.cancel", str(create().run.id)),
    "retry_run": lambda: of_run("/runs/{}/retry", "run.retry", failed_run()),
    "fork_run": lambda: Attempt(
        f"/runs/{create().run.id}/fork", {"from_stage": "topic_map", "request": SECRET}, "run.fork", "run:"
    ),
    "approve_stage": lambda: of_run(
        "/runs/{}/stages/message/approve",
        "stage.approve",
        waiting_run(),
        artifact_sha256=DIGEST,
        content=SECRET,
        note=SECRET,
    ),
    "request_changes": lambda: of_run(
        "/runs/{}/stages/message/request-changes",
        "stage.request_changes",
        waiting_run(),
        artifact_sha256=DIGEST,
        feedback=SECRET,
    ),
    "create_brand": lambda: Attempt("/brands", {"name": SECRET}, "brand.create", "brand:"),
    "change_brand": lambda: of_resource("brand", "change"),
    "archive_brand": lambda: of_resource("brand", "archive"),
    "create_project": lambda: Attempt("/projects", {"name": SECRET}, "project.create", "project:"),
    "change_project": lambda: of_resource("project", "change"),
    "archive_project": lambda: of_resource("project", "archive"),
    "pause_queue": lambda: Attempt("/queue/pause", {"reason": SECRET}, "queue.pause", "queue:stages"),
    "resume_queue": paused_queue,
    "cancel_runs": lambda: of_many("/queue/cancel", "run.cancel", str(create().run.id)),
    "retry_runs": lambda: of_many("/queue/retry", "run.retry", failed_run()),
    "archive_runs": lambda: of_many("/queue/archive", "run.archive", failed_run()),
    "unarchive_runs": lambda: of_many("/queue/unarchive", "run.unarchive", archived_run()),
    "resume_provider": paused_provider,
    "end_session": lambda: session_to_end("/sessions/{}/end"),
    "end_own_sessions": lambda: session_to_end("/sessions/end"),
}
CHANGING = {route.name: route for route in ROUTES if route.method not in ("GET", "HEAD")}


def test_every_operation_that_changes_something_is_tried() -> None:
    assert set(CHANGES) == set(CHANGING)


@pytest.mark.parametrize("keyed", [False, True], ids=["", "keyed"])
@pytest.mark.parametrize("name", CHANGES)
async def test_a_change_leaves_exactly_one_entry_with_its_actor(managed: Api, name: str, keyed: bool) -> None:
    key = create_key("ann", actor=OPERATOR, role=CHANGING[name].role)
    attempt = await asyncio.to_thread(CHANGES[name])
    headers = {"Authorization": f"Bearer {key.secret}", "X-Request-ID": "the-request", **attempt.headers}
    if keyed and CHANGING[name].keyed:
        headers["Idempotency-Key"] = "once"
    for _ in range(2 if "Idempotency-Key" in headers else 1):  # what is repeated under its key changes nothing
        response = await managed.request(CHANGING[name].method, attempt.path, json=attempt.body, headers=headers)
        assert response.status in (200, 201), response.body
    (entry,) = entries(actor="key:ann")
    assert (entry["action"], entry["result"]) == (attempt.action, "done")
    assert entry["target"].startswith(attempt.target)
    assert (entry["actor_id"], entry["role"]) == (str(key.id), CHANGING[name].role)
    assert (entry["address"], entry["request_id"]) == ("127.0.0.1", "the-request")
    assert SECRET not in str(entries())
    assert key.secret not in str(entries())


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("/runs", {"workflow": "nonesuch", "request": "x"}, 422),
        ("/runs/01a20c66-c2a9-70b2-9d9f-0558575aa31b/cancel", {}, 404),
        ("/queue/cancel", {}, 422),
        ("/queue/resume", {}, 200),  # it is not paused
    ],
)
async def test_what_changes_nothing_leaves_no_entry(api: Api, path: str, body: dict[str, Any], status: int) -> None:
    assert (await api.post(path, body)).status == status
    assert entries() == []


async def test_a_conflict_leaves_no_entry(api: Api) -> None:
    run = await api.create_run()
    (await api.post(f"/runs/{run['id']}/retry", {})).problem(409, "conflict")
    assert (await api.post(f"/runs/{run['id']}/cancel", {})).status == 200
    assert (await api.post(f"/runs/{run['id']}/cancel", {})).status == 200
    assert [entry["action"] for entry in entries()] == ["run.create", "run.cancel"]


Send = Callable[[Api], Awaitable[Any]]
REFUSED: dict[str, tuple[Send, str, str | None]] = {
    "no key": (lambda api: api.get("/runs"), "unauthorized", "GET /api/v2/runs"),
    "a wrong key": (
        lambda api: api.get("/runs", headers={"Authorization": f"Bearer vmk_{'x' * 43}"}),
        "unauthorized",
        "GET /api/v2/runs",
    ),
    "a token in the path": (lambda api: api.get(f"/{TOKEN}x?key={TOKEN}x"), "unauthorized", None),
    "a method without a route": (lambda api: api.request("PROPFIND", "/runs"), "unauthorized", None),
    "no path": (lambda api: api.get(""), "unauthorized", None),
}


@pytest.mark.parametrize("kind", REFUSED)
async def test_a_refused_attempt_leaves_one_entry_without_its_secret(managed: Api, kind: str) -> None:
    send, reason, target = REFUSED[kind]
    response = await send(managed)
    assert response.status == 401
    await until(lambda: bool(entries()))
    (entry,) = entries()
    assert (entry["action"], entry["actor"], entry["result"]) == ("request.refused", "anonymous", "refused")
    assert (entry["target"], entry["address"]) == (target, "127.0.0.1")
    assert entry["data"] == {"reason": reason, "count": 1}
    assert entry["request_id"] == response.headers["X-Request-ID"]
    assert "vmk" not in str(entry).lower()
    assert TOKEN not in str(entry)


async def test_a_role_that_does_not_suffice_is_recorded_with_its_holder(managed: Api) -> None:
    key = create_key("vic", actor=OPERATOR, role="viewer")
    headers = {"Authorization": f"Bearer {key.secret}"}
    (await managed.get("/audit", headers=headers)).problem(403, "forbidden")
    await until(lambda: bool(entries(result="refused")))
    (entry,) = entries(result="refused")
    assert (entry["actor"], entry["actor_id"], entry["role"]) == ("key:vic", str(key.id), "viewer")
    assert (entry["target"], entry["data"]["reason"]) == ("GET /api/v2/audit", "forbidden")


async def test_a_creator_who_reviews_a_run_with_four_eyes_is_recorded(managed: Api) -> None:
    key = create_key("ann", actor=OPERATOR, role="editor")
    headers = {"Authorization": f"Bearer {key.secret}"}
    body = {"workflow": "landing_page", "request": "a page", "four_eyes": True}
    run_id = (await managed.post("/runs", body, headers=headers)).json()["id"]
    await asyncio.to_thread(finish_next, run_id, DRAFT)
    approve = f"/runs/{run_id}/stages/message/approve"
    (await managed.post(approve, {"artifact_sha256": DIGEST}, headers=headers)).problem(403, "four_eyes")
    await until(lambda: bool(entries(result="refused")))
    (entry,) = entries(result="refused")
    assert (entry["data"]["reason"], entry["actor"]) == ("four_eyes", "key:ann")


async def test_another_sites_page_is_recorded(api: Api) -> None:
    (await api.get("/runs", headers={"Host": "evil.example"})).problem(403, "forbidden_host")
    (await api.post("/runs", NEW_RUN, headers={"Origin": "https://evil.example"})).problem(403, "cross_site")
    await until(lambda: len(entries()) == 2)
    assert [entry["data"]["reason"] for entry in entries()] == ["forbidden_host", "cross_site"]


async def test_a_flood_leaves_ten_entries_and_at_the_end_its_count(managed: Api) -> None:
    await asyncio.gather(*(managed.get("/runs") for _ in range(60)))
    await until(lambda: len(entries()) == 10)
    assert {entry["data"]["count"] for entry in entries()} == {1}


async def test_an_address_that_tries_too_many_keys_is_recorded(managed: Api) -> None:
    response = await managed.get("/runs", headers={"Authorization": "Bearer wrong"})
    while response.status == 401:
        response = await managed.get("/runs", headers={"Authorization": "Bearer wrong"})
    response.problem(429, "rate_limited")
    await until(lambda: "rate_limited" in {entry["data"]["reason"] for entry in entries()})
    assert {entry["actor"] for entry in entries()} == {"anonymous"}


async def test_refusals_need_no_database(behind_proxy: Api, proxy: Proxy, caplog: pytest.LogCaptureFixture) -> None:
    proxy.cut()
    response = await behind_proxy.get("/runs", headers={"Authorization": "Bearer wrong"})
    response.problem(401, "unauthorized")
    await until(lambda: "audit.refused" in caplog.text, seconds=15)


async def test_entries_are_listed_newest_first_and_page_by_page(api: Api) -> None:
    add(*(f"run:{number}" for number in range(7)))
    seal_all()
    add("run:7")
    page = (await api.get("/audit?limit=3")).json()
    seen = page["items"]
    while page["next_cursor"] is not None:
        page = (await api.get(f"/audit?limit=3&cursor={page['next_cursor']}")).json()
        seen += page["items"]
    assert [entry["target"] for entry in seen] == [f"run:{number}" for number in range(7, -1, -1)]
    assert [entry["position"] for entry in seen] == [None, *range(7, 0, -1)]
    assert seen[0]["actor_id"] == ANN.id


@pytest.mark.parametrize(
    ("query", "targets"),
    [
        ("actor=key:ann", ["run:1"]),
        ("action=run.retry", ["run:2"]),
        ("target=run:2", ["run:2"]),
        ("address=192.0.2.7", ["run:2", "run:1"]),
        ("address=192.0.2.7&action=run.cancel", ["run:1"]),
        ("result=refused", ["GET /x"]),
        ("result=done", ["run:2", "run:1"]),
        ("since=2001-01-01T00:00:00Z", ["GET /x", "run:2", "run:1"]),
        ("until=2001-01-01T00:00:00Z", []),
        ("actor=nobody", []),
    ],
)
async def test_entries_are_filtered(api: Api, query: str, targets: list[str]) -> None:
    add("run:1")
    add("run:2", actor=replace(ANN, name="key:bob"), action="run.retry")
    change(
        "INSERT INTO audit_entries (actor, action, target, result) VALUES ('a', 'request.refused', 'GET /x', 'refused')"
    )
    found = (await api.get(f"/audit?{query}")).json()["items"]
    assert [entry["target"] for entry in found] == targets


@pytest.mark.parametrize("query", ["actor=key:bob", "address=192.0.2.9", "since=2001-01-01T00:00:00Z&actor=key:bob"])
async def test_a_search_without_an_index_is_bounded_and_finds_all(
    api: Api, query: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "MOST_LOOKED_AT", 3)
    bob = replace(ANN, name="key:bob", address="192.0.2.9")
    for number in range(10):
        add(f"run:{number}", actor=bob if number in (0, 1, 9) else ANN)
    seen, cursor, pages = [], "", 0
    while not pages or cursor:
        page = (await api.get(f"/audit?{query}{cursor}")).json()
        seen += [entry["target"] for entry in page["items"]]
        cursor = f"&cursor={page['next_cursor']}" if page["next_cursor"] else ""
        pages += 1
    assert seen == ["run:9", "run:1", "run:0"]
    assert 3 <= pages <= 5


@pytest.mark.parametrize("query", ["cursor=0", "cursor=x", "result=perhaps", "since=yesterday", "actor=", "nonsense=1"])
async def test_a_wrong_parameter_is_named(refusing: Api, query: str) -> None:
    assert (await refusing.get(f"/audit?{query}")).wrong(422, "invalid_parameter") == {query.partition("=")[0]}
