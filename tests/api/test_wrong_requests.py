"""The responses to wrong requests: status, type, pointers and messages, as recorded."""

from __future__ import annotations

import io
import json
import re
from typing import Any
from uuid import UUID

from tests.api.client import NEW_RUN, Api, Response
from tests.recorded.record import check
from tests.support.runs import create, read
from tests.support.work import finish_next

NOBODY = "01a20c66-c2a9-70b2-9d9f-0558575aa31b"
DIGEST = "0" * 64
RECORDED_HEADERS = ("Allow", "Content-Type", "Retry-After", "WWW-Authenticate", "ETag")
JSON = {"Content-Type": "application/json"}


class TooLarge(io.BytesIO):
    """A body over the limit."""

    def __repr__(self) -> str:
        return "a body over 1 MiB"


Request = tuple[str, str, dict[str, Any]]


def requests(ids: dict[str, str]) -> list[Request]:
    """Return the wrong requests: method, path below ``/api/v2`` and the client's options."""
    queued, waiting, completed, canceled = ids["QUEUED"], ids["WAITING"], ids["COMPLETED"], ids["CANCELED"]
    decide = {"artifact_sha256": DIGEST}
    return [
        *(("GET", path, {}) for path in ("/", "/nothing", "/runs/", "/Runs", f"/runs/{NOBODY}/nothing")),
        *((method, "/runs", {}) for method in ("DELETE", "PUT", "PROPFIND", "OPTIONS")),
        ("POST", "/health/live", {}),
        ("PATCH", "/openapi.json", {}),
        *(
            ("GET", f"/runs?{query}", {})
            for query in (
                "limit=0",
                "limit=201",
                "limit=x",
                "limit=1&limit=2",
                "cursor=nonsense",
                "cursor=",
                "status=done",
                "brand_id=7",
                "finished_after=yesterday",
                "finished_before=2026-11-25T08:30:00",
                "unknown=1",
                "workflow=%00",
                "limit=0&status=done&unknown=1",
            )
        ),
        ("GET", "/workflows/nothing", {}),
        *(("GET", f"/runs/{id}", {}) for id in (NOBODY, "7", "%00")),
        *(("GET", f"/runs/{queued}?wait={wait}", {}) for wait in ("-1", "31", "x", "nan")),
        *(
            ("POST", "/runs", {"data": body, "headers": headers})
            for body, headers in (
                ("", JSON),
                ("{", JSON),
                ("[]", JSON),
                ("null", JSON),
                ('{"workflow": "content_calendar"}', {"Content-Type": "text/plain"}),
                (b"\xff", JSON),
                ("[" * 5000, JSON),
            )
        ),
        *(
            ("POST", "/runs", {"json": body})
            for body in (
                {},
                {"workflow": "nothing", "request": "x"},
                {"workflow": "content_calendar", "request": ""},
                {"workflow": "content_calendar", "request": "   "},
                {"workflow": "content_calendar", "request": "\x00"},
                {"workflow": "content_calendar", "request": "\ud800"},
                {"workflow": "content_calendar", "request": "x" * 20_001},
                NEW_RUN | {"unknown": 1},
                NEW_RUN | {"brand_id": "7"},
                NEW_RUN | {"brand_id": NOBODY},
                NEW_RUN | {"project_id": NOBODY},
                NEW_RUN | {"auto_approve": "yes"},
                NEW_RUN | {"priority": "high"},
                {"workflow": 7, "request": None, "unknown": 1},
            )
        ),
        ("POST", "/runs", {"data": TooLarge(b"x" * (1024 * 1024 + 1)), "headers": JSON}),
        ("POST", "/runs", {"json": NEW_RUN, "headers": {"Expect": "something"}}),
        *(("POST", "/runs", {"json": NEW_RUN, "headers": {"Idempotency-Key": key}}) for key in ("", "x" * 256, "a\tb")),
        ("POST", "/runs", {"json": NEW_RUN | {"request": "another"}, "headers": {"Idempotency-Key": "used"}}),
        *(
            ("POST", f"/runs/{id}/{action}", {"json": body})
            for id in (NOBODY, queued, completed, canceled)
            for action, body in (
                ("retry", {}),
                ("retry", {"from_stage": "nothing"}),
                ("fork", {"from_stage": "nothing"}),
                ("fork", {"from_stage": "calendar"}),
                ("fork", {}),
            )
            if (id, action, body) != (completed, "fork", {"from_stage": "calendar"})
        ),
        *(("POST", f"/runs/{id}/cancel", {}) for id in (NOBODY, completed)),
        *(
            ("POST", f"/runs/{id}/stages/{stage}/approve", {"json": body})
            for id, stage, body in (
                (NOBODY, "message", decide),
                (waiting, "nothing", decide),
                (waiting, "copy", decide),
                (waiting, "message", decide),
                (waiting, "message", {}),
                (waiting, "message", {"artifact_sha256": "nonsense"}),
                (waiting, "message", decide | {"content": ""}),
                (waiting, "message", decide | {"content": "\x00"}),
                (waiting, "message", decide | {"note": "x" * 5000}),
                (queued, "topic_map", decide),
            )
        ),
        *(
            ("POST", f"/runs/{waiting}/stages/message/request-changes", {"json": body})
            for body in (decide, decide | {"feedback": ""}, decide | {"feedback": "shorter"})
        ),
        *(("GET", f"/runs/{id}/events?{query}", {}) for id, query in ((NOBODY, ""), (queued, "after=-1"))),
        *(
            ("GET", f"/runs/{queued}/events", {"headers": {"Accept": "text/event-stream", "Last-Event-ID": given}})
            for given in ("x", "-1", "9" * 19)
        ),
        ("GET", f"/runs/{NOBODY}/artifacts", {}),
        ("GET", f"/runs/{queued}/artifacts/topic_map", {}),
        ("GET", f"/runs/{queued}/artifacts/nothing", {}),
        ("GET", f"/runs/{completed}/artifacts/topic_map?version=0", {}),
        ("GET", f"/runs/{completed}/artifacts/topic_map?version=9", {}),
        ("GET", f"/runs/{NOBODY}/archive", {}),
        *(
            (method, f"/{noun}{path}", {"json": body, "headers": headers})
            for noun in ("brands", "projects")
            for method, path, body, headers in (
                ("POST", "", {}, {}),
                ("POST", "", {"name": ""}, {}),
                ("POST", "", {"name": "x", "unknown": 1}, {}),
                ("POST", "", {"name": "x", "channels": 7, "products": 7}, {}),
                ("PATCH", f"/{NOBODY}", {"name": "x"}, {}),
                ("PATCH", f"/{NOBODY}", {"name": "x"}, {"If-Match": '"1"'}),
                ("PATCH", f"/{ids[noun]}", {"name": "x"}, {}),
                ("PATCH", f"/{ids[noun]}", {"name": "x"}, {"If-Match": '"9"'}),
                ("PATCH", f"/{ids[noun]}", {"name": "x"}, {"If-Match": "nonsense"}),
                ("PATCH", f"/{ids[noun]}", {"name": None}, {"If-Match": '"1"'}),
                ("POST", f"/{NOBODY}/archive", None, {}),
            )
        ),
        *(("GET", f"/{noun}/{NOBODY}", {}) for noun in ("brands", "projects")),
        ("POST", "/projects", {"json": {"name": "x", "starts_on": "2026-02-01", "ends_on": "2026-01-01"}}),
        ("POST", "/projects", {"json": {"name": "x", "brand_id": NOBODY}}),
        *(
            ("POST", f"/queue/{action}", {"json": body})
            for action in ("cancel", "retry")
            for body in ({}, {"status": "completed"}, {"workflow": "nothing"}, {"older_than_seconds": -1})
        ),
        ("POST", "/queue/pause", {"json": {"reason": "\x00"}}),
        ("POST", "/providers/nothing/resume", {}),
        ("POST", "/runs", {"json": NEW_RUN, "headers": {"Host": "elsewhere.example"}}),
        ("POST", "/runs", {"json": NEW_RUN, "headers": {"Origin": "https://elsewhere.example"}}),
        ("POST", "/runs", {"json": NEW_RUN, "headers": {"Sec-Fetch-Site": "cross-site"}}),
    ]


async def test_the_responses_to_wrong_requests_are_as_recorded(api: Api, record: bool) -> None:
    ids = await _prepare(api)
    check("wrong_requests", await _ask(api, requests(ids), ids), anew=record)


async def test_requests_without_credentials_are_refused_as_recorded(refusing_managed: Api, record: bool) -> None:
    given = [{}, {"Authorization": "Bearer nonsense"}, {"Authorization": "Basic dTpw"}, {"Authorization": "Bearer"}]
    asked: list[Request] = [
        (method, path, {"headers": headers})
        for method, path in (("GET", "/runs"), ("POST", "/runs"), ("GET", "/nothing"), ("DELETE", "/runs"))
        for headers in given
    ]
    check("wrong_strangers", await _ask(refusing_managed, asked, {}), anew=record)


async def _prepare(api: Api) -> dict[str, str]:
    response = await api.post("/runs", NEW_RUN, headers={"Idempotency-Key": "used"})
    ids = {"QUEUED": response.json()["id"]}
    waiting, completed, canceled = create("landing_page"), create(), create()
    for created in (waiting, completed):
        _carry_on(created.run.id)
    await api.post(f"/runs/{canceled.run.id}/cancel", None)
    ids |= {"WAITING": str(waiting.run.id), "COMPLETED": str(completed.run.id), "CANCELED": str(canceled.run.id)}
    for noun in ("brands", "projects"):
        ids[noun] = (await api.post(f"/{noun}", {"name": "Ours"})).json()["id"]
    return ids


def _carry_on(run_id: UUID) -> None:
    """Finish stage after stage until none is due."""
    while read("SELECT 1 AS found FROM stages WHERE run_id = %(id)s AND status = 'queued'", id=run_id):
        finish_next(run_id, "# T")


async def _ask(api: Api, asked: list[Request], ids: dict[str, str]) -> dict[str, Any]:
    said: dict[str, Any] = {}
    for method, path, options in asked:
        response = await api.request(method, path, **options)
        shown = {name: value for name, value in options.items() if value or name != "headers"}
        question = _without_ids(f"{method} {path} {_short(repr(shown))}", ids)
        assert question not in said, question
        said[question] = _told(response, ids)
    return said


def _told(response: Response, ids: dict[str, str]) -> dict[str, Any]:
    recorded: dict[str, Any] = {"status": response.status}
    recorded |= {name: response.headers[name] for name in RECORDED_HEADERS if name in response.headers}
    text = _without_ids(response.body.decode(), ids).replace(response.headers["X-Request-ID"], "REQUEST")
    recorded["body"] = json.loads(text) if text and "json" in recorded.get("Content-Type", "") else text
    return recorded


def _without_ids(text: str, ids: dict[str, str]) -> str:
    for name, id in ids.items():
        text = text.replace(id, name)
    # Digests and moments are of this run of the test alone.
    return re.sub(r"\d{4}-\d\d-\d\dT[\d:.]+Z", "MOMENT", text)


def _short(text: str) -> str:
    return text if len(text) <= 300 else f"{text[:100]}… ({len(text)})"
