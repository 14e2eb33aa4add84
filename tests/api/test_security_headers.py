"""Every response has the security headers: of every route, of paths without one, and of every kind of response."""

from __future__ import annotations

import io
import re
from collections.abc import Mapping

import pytest

from api.http.security_headers import SECURITY_HEADERS
from api.operations.operation import Operation
from api.routes.table import ROUTES
from api.ui.places import CHANGES
from api.ui.table import PAGES
from tests.api.browsers import Browser
from tests.api.client import NEW_RUN, Api
from tests.api.conftest import TOKEN, Serving
from tests.api.streams import open_stream
from tests.support.raw_http import answer_to
from tests.support.runs import create
from tests.support.work import finish_next
from vm_webapp.settings import Settings
from vm_webapp.trusted_proxies import parse_networks

NOBODY = "01a20c66-c2a9-70b2-9d9f-0558575aa31b"
BEARER = {"Authorization": f"Bearer {TOKEN}"}
STRICT = "Strict-Transport-Security"


def check(headers: Mapping[str, str]) -> None:
    """Check that a response has every header, once, and names no versions."""
    assert headers.items() >= SECURITY_HEADERS.items()
    assert len(list(headers)) == len(set(headers))
    assert "unsafe" not in headers["Content-Security-Policy"]
    assert re.fullmatch(r"no-store|private, no-cache|no-cache, no-transform", headers["Cache-Control"])
    assert headers["Server"] == "vm-webapp"
    assert "X-Powered-By" not in headers
    assert headers["X-Request-ID"]


def path_of(route: Operation) -> str:
    """Return a path of a route: nothing has these ids."""
    return re.sub(r"\{(\w+)\}", lambda found: NOBODY if found[1].endswith("id") else "nothing", route.path)


async def test_every_response_of_every_route_has_them(refusing_managed: Api) -> None:
    bearers: list[dict[str, str]] = [{}, {"Authorization": "Bearer wrong"}, BEARER]
    statuses = set()
    for route in ROUTES:
        for method in {route.method, "HEAD", "OPTIONS", "DELETE"}:
            for bearer in bearers:
                if bearer == BEARER and method == route.method == "POST" and "{" not in route.path:
                    body = "{"  # which is refused, so that nothing is written
                else:
                    body = "{}" if method == "POST" else ""
                headers = bearer | ({"Content-Type": "application/json"} if body else {})
                response = await refusing_managed.request(method, path_of(route), data=body, headers=headers)
                check(response.headers)
                statuses.add(response.status)
    assert statuses >= {200, 204, 400, 401, 404, 405}


async def test_every_page_has_them_whoever_asks(managed: Api) -> None:
    browser = Browser(managed)
    for signed_in in (False, True):
        statuses = set()
        if signed_in:
            check((await browser.sign_in(TOKEN)).headers)
        # What ends the session comes last.
        for method, path, _ in sorted(PAGES, key=lambda page: "sign-out" in page[1]):
            if path == CHANGES:
                continue  # has no end
            place = path.replace("{id}", NOBODY)
            for headers in ({"Sec-Fetch-Site": "same-origin"}, {"Sec-Fetch-Site": "cross-site"}, {"Accept": "*/*"}):
                form = {"key": "wrong"} if path == "/sign-in" else {}
                answer = await (browser.get(place) if method == "GET" else browser.post(place, headers, **form))
                kept = "no-cache" if path.startswith("/static/") else "no-store"
                assert answer.headers["Cache-Control"] == kept
                check({**answer.headers, "Cache-Control": "no-store"})
                statuses.add(answer.status)
        assert statuses == ({200, 303, 400, 401, 403, 404, 422} if signed_in else {200, 303, 401, 403})


@pytest.mark.parametrize("path", ["/", "/nothing", "/api", "/api/v2", "/favicon.ico", "/%00", "/../etc/passwd"])
async def test_paths_without_a_route_have_them(refusing_managed: Api, path: str) -> None:
    for method in ("GET", "HEAD", "POST", "OPTIONS", "TRACE", "PROPFIND"):
        sent = f"{method} {path} HTTP/1.1\r\nHost: localhost\r\n".encode()
        for token in (b"", f"Authorization: Bearer {TOKEN}\r\n".encode()):
            if method != "HEAD":
                check((await answer_to(refusing_managed.base_url, sent + token + b"\r\n")).headers)


async def test_every_kind_of_response_has_them(api: Api) -> None:
    created = create()
    finish_next(created.run.id, "# T")
    path = f"/runs/{created.run.id}"
    artifact = await api.get(f"{path}/artifacts/topic_map")
    assert artifact.headers["Cache-Control"] == "private, no-cache"
    known = await api.get(f"{path}/artifacts/topic_map", headers={"If-None-Match": artifact.headers["ETag"]})
    assert known.status == 304
    archive = await api.get(f"{path}/archive")
    assert archive.status == 200
    made = await api.post("/runs", NEW_RUN, headers={"Idempotency-Key": "x"})
    again = await api.post("/runs", NEW_RUN, headers={"Idempotency-Key": "x"})
    assert again.headers["Idempotency-Replayed"] == "true"
    too_large = await api.post_raw("/runs", io.BytesIO(b"x" * (1024 * 1024 + 1)))
    assert too_large.status == 413
    for response in (artifact, known, archive, made, again, too_large):
        check(response.headers)
    async with open_stream(api, made.json()["id"]) as stream:
        check(stream.response.headers)
    await api.post(f"/runs/{made.json()['id']}/cancel", {})
    headers = {"Accept": "text/event-stream", "Last-Event-ID": str(await last_event(api, made.json()["id"]))}
    ended = await api.get(f"/runs/{made.json()['id']}/events", headers=headers)
    assert ended.status == 204
    check(ended.headers)


async def last_event(api: Api, run_id: str) -> int:
    """Return the id of a run's newest event."""
    return int((await api.get(f"/runs/{run_id}/events")).json()["items"][-1]["id"])


@pytest.mark.parametrize(
    ("trusted", "proto", "strict"),
    [
        ("127.0.0.1", "https", True),
        ("127.0.0.0/8", "HTTPS", True),
        ("127.0.0.1", "http, https", True),
        ("127.0.0.1", "http", False),
        ("127.0.0.1", "https, http", False),
        ("127.0.0.1", "", False),
        ("127.0.0.1", "nonsense", False),
        ("127.0.0.1", None, False),
        ("10.0.0.0/8", "https", False),
        ("", "https", False),
    ],
)
async def test_strict_transport_security_follows_a_trusted_proxy(
    serving: Serving, untouched: None, trusted: str, proto: str | None, strict: bool
) -> None:
    settings = Settings(managed=True, api_token=TOKEN, trusted_proxies=parse_networks(trusted) if trusted else ())
    headers = {} if proto is None else {"X-Forwarded-Proto": proto}
    async with serving(settings, require_token=True) as api:
        for path in ("/health/live", "/runs", "/nothing"):
            response = await api.get(path, headers=headers)
            check(response.headers)
            assert (response.headers.get(STRICT) == "max-age=31536000; includeSubDomains") is strict
            assert strict or STRICT not in response.headers
