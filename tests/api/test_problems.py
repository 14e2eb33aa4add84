"""Responses in general: request ids, methods, paths, and problems without internal details."""

from __future__ import annotations

import asyncio
import json
import re

import pytest

from tests.api.client import NEW_RUN, Api
from vm_webapp.db.pool import execute, transaction

ID = "01a20c66-c2a9-70b2-9d9f-0558575aa31b"


async def test_a_problem_has_the_members_of_rfc_9457(refusing: Api) -> None:
    response = await refusing.get("/runs?limit=0")
    assert response.problem(422, "invalid_parameter") == {
        "type": "/problems/invalid_parameter",
        "title": "Unprocessable Entity",
        "status": 422,
        "detail": "limit: Input should be greater than or equal to 1",
        "request_id": response.headers["X-Request-ID"],
        "errors": [{"parameter": "limit", "message": "Input should be greater than or equal to 1"}],
    }


@pytest.mark.parametrize("path", ["/health/live", "/runs", "/no/such", "/runs?limit=0"])
async def test_a_usable_request_id_is_kept(refusing: Api, path: str) -> None:
    assert (await refusing.get(path, headers={"X-Request-ID": "from-the.caller_1"})).headers["X-Request-ID"] == (
        "from-the.caller_1"
    )


@pytest.mark.parametrize("given", [None, "", "with space", "x" * 129, "é", '"<script>', "a,b"])
async def test_a_request_without_a_usable_id_gets_one(refusing: Api, given: str | None) -> None:
    headers = {} if given is None else {"X-Request-ID": given}
    made = [(await refusing.get("/health/live", headers=headers)).headers["X-Request-ID"] for _ in range(2)]
    assert all(re.fullmatch("[0-9a-f]{32}", each) for each in made)
    assert made[0] != made[1]


@pytest.mark.parametrize("path", ["/", "/no/such/path", "/runs/", "/Runs", f"/runs/{ID}/", f"/runs/{ID}/nothing"])
async def test_an_unknown_path_is_a_problem(refusing: Api, path: str) -> None:
    (await refusing.get(path)).problem(404, "not_found")


@pytest.mark.parametrize(
    ("method", "path", "allow"),
    [
        ("DELETE", "/runs", "GET, HEAD, OPTIONS, POST"),
        ("PUT", "/runs", "GET, HEAD, OPTIONS, POST"),
        ("POST", f"/runs/{ID}", "GET, HEAD, OPTIONS"),
        ("POST", "/health/live", "GET, HEAD, OPTIONS"),
        ("PATCH", "/openapi.json", "GET, HEAD, OPTIONS"),
        ("PROPFIND", "/workflows", "GET, HEAD, OPTIONS"),
    ],
)
async def test_the_response_to_an_unknown_method_lists_the_known_ones(
    refusing: Api, method: str, path: str, allow: str
) -> None:
    response = await refusing.request(method, path, json=NEW_RUN)
    response.problem(405, "method_not_allowed")
    assert response.headers["Allow"] == allow


async def test_options_lists_the_methods(refusing: Api) -> None:
    response = await refusing.request("OPTIONS", "/runs")
    assert (response.status, response.body, response.headers["Allow"]) == (204, b"", "GET, HEAD, OPTIONS, POST")
    assert response.headers["X-Request-ID"]


@pytest.mark.parametrize("path", ["/health/live", "/health/ready", "/workflows", "/runs", "/openapi.json", "/runs?x=1"])
async def test_the_response_to_head_is_that_of_get_without_a_body(refusing: Api, path: str) -> None:
    head, get = await refusing.request("HEAD", path), await refusing.get(path)
    assert (head.status, head.body) == (get.status, b"")
    assert head.headers["Content-Type"] == get.headers["Content-Type"]
    if get.status == 200:
        assert head.headers["Content-Length"] == str(len(get.body))


@pytest.mark.parametrize("accept", ["text/html", "application/xml;q=0.9", "nonsense", "", "*/*"])
async def test_the_response_is_json_whatever_is_accepted(refusing: Api, accept: str) -> None:
    assert (await refusing.get("/runs", headers={"Accept": accept})).json() == {"items": [], "next_cursor": None}
    (await refusing.get("/no/such", headers={"Accept": accept})).problem(404, "not_found")


async def test_an_unknown_expectation_is_refused(refusing: Api) -> None:
    response = await refusing.post("/runs", NEW_RUN, headers={"Expect": "miracles"})
    response.problem(417, "expectation_failed")


async def test_a_client_that_waits_for_100_continue_gets_it(api: Api) -> None:
    assert (await api.request("POST", "/runs", json=NEW_RUN, expect100=True)).status == 201


@pytest.mark.parametrize(
    "sent",
    [
        pytest.param(b"Content-Length: 100\r\nExpect: 100-continue\r\n\r\n", id="nothing"),
        pytest.param(b'Content-Length: 100\r\n\r\n{"workflow":', id="a part"),
        pytest.param(b'Transfer-Encoding: chunked\r\n\r\n2\r\n{"\r\n', id="one chunk"),
    ],
)
async def test_the_wait_for_a_body_is_limited(refusing: Api, monkeypatch: pytest.MonkeyPatch, sent: bytes) -> None:
    monkeypatch.setattr("api.operations.inputs.BODY_SECONDS", 0.1)
    _, _, port = refusing.base_url.rpartition(":")
    reader, writer = await asyncio.open_connection("127.0.0.1", int(port))
    writer.write(b"POST /api/v2/runs HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n" + sent)
    response = await asyncio.wait_for(reader.readuntil(b'"}'), 5)
    writer.close()
    assert b"HTTP/1.1 408 Request Timeout\r\n" in response
    assert b"/problems/body_timeout" in response


async def test_an_internal_error_is_logged_and_not_shown(api: Api, caplog: pytest.LogCaptureFixture) -> None:
    with transaction():
        execute("ALTER TABLE runs RENAME TO gone")
    response = await api.get("/runs")
    problem = response.problem(500, "internal_error")
    assert "log" in problem["detail"]
    for internal in ("gone", "relation", "SELECT", "Traceback", "psycopg2"):
        assert internal not in json.dumps(problem)
    (record,) = [record for record in caplog.records if record.message == "request.failed"]
    assert record.__dict__["request_id"] == problem["request_id"]
    assert record.exc_info is not None
