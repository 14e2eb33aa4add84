"""POST /runs: what is created, and requests that are refused without writing anything."""

from __future__ import annotations

import gzip
import json
from collections.abc import AsyncIterator
from io import BytesIO
from typing import Any
from uuid import UUID, uuid4

import pytest

from api.app import MAX_BODY_BYTES
from tests.api.client import NEW_RUN, Api, written
from tests.support.snapshots import kept_by
from vm_webapp.db.pool import execute, rows, transaction

REQUEST = NEW_RUN["request"]


def raw(**fields: Any) -> str:
    return json.dumps(NEW_RUN | fields)


async def test_the_response_is_the_whole_run(api: Api) -> None:
    response = await api.post("/runs", NEW_RUN)
    run = response.json()
    assert response.status == 201
    assert response.headers["Location"] == f"/api/v2/runs/{run['id']}"
    assert UUID(run.pop("id")).version == 7
    assert run.pop("created_at").endswith("Z")
    assert run.pop("waiting_on")["kind"] == "no_worker"
    first, second = run.pop("stages")
    assert run == {
        "workflow": "content_calendar",
        "status": "queued",
        "priority": "normal",
        "request": REQUEST,
        "four_eyes": False,
        "brand_id": None,
        "project_id": None,
        "parent_run_id": None,
        "started_at": None,
        "finished_at": None,
        "archived_at": None,
        "error": None,
        "progress": {"completed": 0, "total": 2},
        "usage": {"prompt_tokens": 0, "completion_tokens": 0, "uncounted": False},
        "cost": None,
        "budget": None,
    }
    assert first["queued_at"] == first["available_at"]
    assert second == {
        "key": "calendar",
        "title": "Publishing calendar",
        "position": 2,
        "status": "pending",
        "attempt": 0,
        "requires_approval": False,
        "available_at": None,
        "queued_at": None,
        "started_at": None,
        "finished_at": None,
        "error": None,
        "provider": None,
        "model": None,
        "usage": {"prompt_tokens": 0, "completion_tokens": 0, "uncounted": False},
        "cost": None,
        "artifact": None,
    }
    assert (first["key"], first["position"], first["status"]) == ("topic_map", 1, "queued")


async def test_the_location_leads_to_the_same_run(api: Api) -> None:
    created = await api.post("/runs", NEW_RUN)
    read = await api.get(created.headers["Location"].removeprefix("/api/v2"))
    assert read.json() == created.json()


async def test_every_field_is_stored(api: Api) -> None:
    brand, project = uuid4(), uuid4()
    with transaction():
        execute("INSERT INTO brands (id, name) VALUES (%(id)s, 'Crumb')", id=brand)
        execute("INSERT INTO projects (id, name) VALUES (%(id)s, 'Spring')", id=project)
    run = await api.create_run(
        request="  A calendar \n", brand_id=str(brand), project_id=str(project), priority="low", auto_approve=True
    )
    assert (run["request"], run["priority"]) == ("A calendar", "low")
    assert (run["brand_id"], run["project_id"]) == (str(brand), str(project))
    with transaction():
        (stored,) = rows("SELECT auto_approve FROM runs WHERE id = %(id)s", id=UUID(run["id"]))
    assert stored["auto_approve"] is True
    assert kept_by(UUID(run["id"]))["brand"]["name"] == "Crumb"


@pytest.mark.parametrize("text", ["x" * 20_000, "𝄞" * 20_000, "naïve – “quoted” 日本語 🥐\tand\nlines", "\\u0000"])
async def test_any_storable_text_comes_back_as_it_was_sent(api: Api, text: str) -> None:
    assert (await api.create_run(request=text))["request"] == text


async def test_a_body_of_exactly_one_mebibyte_is_read(api: Api) -> None:
    body = raw().ljust(MAX_BODY_BYTES)
    assert (await api.post_raw("/runs", body)).status == 201


@pytest.mark.parametrize("content_type", ["application/json; charset=utf-8", "Application/JSON"])
async def test_other_spellings_of_the_json_content_type_are_accepted(api: Api, content_type: str) -> None:
    assert (await api.post_raw("/runs", raw(), {"Content-Type": content_type})).status == 201


@pytest.mark.parametrize(
    ("fields", "pointers"),
    [
        ({"workflow": "no_such"}, {"/workflow"}),
        ({"workflow": ""}, {"/workflow"}),
        ({"workflow": "w" * 65}, {"/workflow"}),
        ({"workflow": None}, {"/workflow"}),
        ({"request": ""}, {"/request"}),
        ({"request": " \t\n\u2003"}, {"/request"}),
        ({"request": "x" * 20_001}, {"/request"}),
        ({"request": 5}, {"/request"}),
        ({"request": ["x"]}, {"/request"}),
        ({"request": "a\x00b"}, {"/request"}),
        ({"request": "a\ud800b"}, {"/request"}),
        ({"workflow": "plan\x00"}, {"/workflow"}),
        ({"auto_approve": "5"}, {"/auto_approve"}),
        ({"auto_approve": "true"}, {"/auto_approve"}),
        ({"auto_approve": 1}, {"/auto_approve"}),
        ({"auto_approve": None}, {"/auto_approve"}),
        ({"priority": "high"}, {"/priority"}),
        ({"priority": 0}, {"/priority"}),
        ({"brand_id": "crumb"}, {"/brand_id"}),
        ({"brand_id": 7}, {"/brand_id"}),
        ({"brand_id": str(uuid4())}, {"/brand_id"}),
        ({"project_id": str(uuid4())}, {"/project_id"}),
        ({"deadline": "soon"}, {"/deadline"}),
        ({"a/b~c": 1}, {"/a~1b~0c"}),
        ({"a/b": {"c~d": ["ok", "\x00"]}}, {"/a~1b/c~0d/1"}),
        ({"notes": {"\ud800": 1}}, {"/notes"}),
        ({"\x00": 1}, {""}),
        ({"notes": json.loads("[" * 20 + "]" * 20)}, {"/notes"}),
        (
            {"workflow": "no_such", "request": "", "auto_approve": "yes", "priority": 3, "brand_id": "x", "more": 1},
            {"/workflow", "/request", "/auto_approve", "/priority", "/brand_id", "/more"},
        ),
        ({"workflow": "plan\x00", "request": "\udfff"}, {"/workflow", "/request"}),
    ],
)
async def test_a_wrong_value_is_named_and_nothing_is_written(
    refusing: Api, fields: dict[str, Any], pointers: set[str]
) -> None:
    response = await refusing.post_raw("/runs", raw(**fields))
    assert response.wrong(422, "invalid_input") == pointers


async def test_what_is_missing_is_named(refusing: Api) -> None:
    assert (await refusing.post("/runs", {})).wrong(422, "invalid_input") == {"/workflow", "/request"}


async def test_the_error_for_an_unknown_workflow_lists_the_known_ones(refusing: Api) -> None:
    (error,) = (await refusing.post("/runs", NEW_RUN | {"workflow": "no_such"})).problem(422, "invalid_input")["errors"]
    assert error["message"].startswith("there is no workflow 'no_such'; known: content_calendar, ")


async def test_an_archived_brand_takes_no_new_runs(api: Api) -> None:
    brand = uuid4()
    with transaction():
        execute("INSERT INTO brands (id, name, archived_at) VALUES (%(id)s, 'Old', now())", id=brand)
    before = written()
    assert (await api.post("/runs", NEW_RUN | {"brand_id": str(brand)})).wrong(422, "invalid_input") == {"/brand_id"}
    assert written() == before


@pytest.mark.parametrize("body", ["[]", "null", '"text"', "5", "true"])
async def test_a_body_that_is_no_object_is_refused(refusing: Api, body: str) -> None:
    problem = (await refusing.post_raw("/runs", body)).problem(422, "invalid_input")
    assert problem["detail"] == "the body must be a JSON object"


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"{", id="cut off"),
        pytest.param(b"workflow=plan_90d", id="a form"),
        pytest.param(raw(auto_approve=float("nan")).encode(), id="NaN"),
        pytest.param(raw(auto_approve=float("-inf")).encode(), id="-Infinity"),
        pytest.param(raw().encode() + b"{}", id="two documents"),
        pytest.param(raw().encode("utf-16"), id="UTF-16"),
        pytest.param(b'{"request": "caf\xe9"}', id="Latin-1"),
        pytest.param(b"\xef\xbb\xbf" + raw().encode(), id="a byte order mark"),
        pytest.param(b'{"request":' + b"9" * 5_000 + b"}", id="a number of 5,000 digits"),
        pytest.param(b'{"x":' + b"[" * 33 + b"]" * 33 + b"}", id="nested 34 deep"),
        pytest.param(b'{"x":' + b"[" * 900 + b"]" * 900 + b"}", id="nested 901 deep"),
        pytest.param(b'{"x":' + b'{"x":' * 50_000 + b"1" + b"}" * 50_001, id="nested 50,001 deep"),
    ],
)
async def test_what_is_not_json_is_refused(refusing: Api, body: bytes) -> None:
    (await refusing.post_raw("/runs", body)).problem(400, "malformed_json")


@pytest.mark.parametrize("body", [b"", b" \n"])
async def test_an_empty_body_is_refused(refusing: Api, body: bytes) -> None:
    (await refusing.post_raw("/runs", body)).problem(400, "empty_body")


@pytest.mark.parametrize(
    ("body", "pointers"),
    [
        ('{"workflow":"plan_90d","request":"one","request":"two"}', {"/request"}),
        ('{"workflow":"smoke","request":"x","notes":[{"a":1,"a":1}]}', {"/notes/0/a"}),
    ],
)
async def test_a_key_given_twice_is_refused(refusing: Api, body: str, pointers: set[str]) -> None:
    assert (await refusing.post_raw("/runs", body)).wrong(422, "invalid_input") == pointers


@pytest.mark.parametrize(
    "headers",
    [
        {"Content-Type": "text/plain"},
        {"Content-Type": "application/x-www-form-urlencoded"},
        {"Content-Type": "application/json-patch+json"},
        {"Content-Type": "nonsense"},
    ],
)
async def test_another_content_type_is_refused(refusing: Api, headers: dict[str, str]) -> None:
    (await refusing.post_raw("/runs", raw(), headers)).problem(415, "unsupported_media_type")


async def test_no_content_type_is_refused(refusing: Api) -> None:
    response = await refusing.request(
        "POST", "/runs", data=raw().encode(), headers={}, skip_auto_headers={"Content-Type"}
    )
    response.problem(415, "unsupported_media_type")


async def test_a_body_over_one_mebibyte_is_refused(refusing: Api) -> None:
    (await refusing.post_raw("/runs", BytesIO(raw().ljust(MAX_BODY_BYTES + 1).encode()))).problem(413, "body_too_large")


async def test_a_body_over_one_mebibyte_is_refused_without_its_length(refusing: Api) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(20):
            yield b" " * 65_536

    (await refusing.post_raw("/runs", chunks())).problem(413, "body_too_large")


async def test_a_body_that_unpacks_to_over_one_mebibyte_is_refused(refusing: Api) -> None:
    bomb = gzip.compress(raw().ljust(100 * MAX_BODY_BYTES).encode())
    headers = {"Content-Type": "application/json", "Content-Encoding": "gzip"}
    (await refusing.post_raw("/runs", bomb, headers)).problem(413, "body_too_large")


async def test_a_body_that_does_not_unpack_is_refused(refusing: Api) -> None:
    headers = {"Content-Type": "application/json", "Content-Encoding": "gzip"}
    (await refusing.post_raw("/runs", b"not gzip at all", headers)).problem(400, "unreadable_body")


async def test_a_run_has_its_projects_brand_and_no_other(api: Api) -> None:
    ours, theirs = [(await api.post("/brands", {"name": name})).json()["id"] for name in ("Ours", "Theirs")]
    project = (await api.post("/projects", {"name": "Winter", "brand_id": ours})).json()["id"]
    run = await api.create_run(project_id=project)
    assert (run["brand_id"], run["project_id"]) == (ours, project)
    before = written()
    refused = await api.post("/runs", NEW_RUN | {"brand_id": theirs, "project_id": project})
    assert refused.wrong(422, "invalid_input") == {"/brand_id"}
    await api.post(f"/brands/{ours}/archive", {})
    refused = await api.post("/runs", NEW_RUN | {"project_id": project})
    assert refused.wrong(422, "invalid_input") == {"/project_id"}
    assert written() == before
