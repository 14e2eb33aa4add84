"""Connections: what is malformed, slow or too much, against the aiohttp that is installed."""

from __future__ import annotations

import logging

import pytest
from aiohttp import web

from api.http.security_headers import SECURITY_HEADERS
from tests.api.client import Api, until
from tests.api.conftest import Serving
from tests.api.raw_requests import BEARER, CHUNKED, POST, SECRET, done
from tests.support.raw_http import HEAD, PROBE, answer_to, raw_connection

MALFORMED: list[tuple[str, bytes, int, str, str]] = [
    ("a CR in a token", BEARER + b"\r" + b"x\r\n\r\n", 400, "malformed_request", "header"),
    ("a NUL in a token", BEARER + b"\0x\r\n\r\n", 400, "malformed_request", "header"),
    ("a control character in a token", BEARER + b"\x0bx\r\n\r\n", 400, "malformed_request", "header"),
    ("a folded token", BEARER + b"\r\n  x\r\n\r\n", 400, "malformed_request", "header"),
    ("an LF in a token", BEARER + b"\nx\r\n\r\n", 400, "malformed_request", "header"),
    ("an over-long token", BEARER + b"x" * 9000 + b"\r\n\r\n", 431, "headers_too_large", "large_headers"),
    ("an over-long name", HEAD + SECRET.encode() * 900 + b": x\r\n\r\n", 431, "headers_too_large", "large_headers"),
    (
        "too many headers",
        BEARER + b"\r\n" + b"".join(b"A%d: x\r\n" % each for each in range(130)) + b"\r\n",
        431,
        "headers_too_large",
        "large_headers",
    ),
    (
        "too much of headers",
        BEARER + b"\r\n" + b"".join(b"A%d: " % each + b"x" * 8000 + b"\r\n" for each in range(5)) + b"\r\n",
        431,
        "headers_too_large",
        "large_headers",
    ),
    ("a name without a colon", BEARER + b"\r\n" + SECRET.encode() + b"\r\n\r\n", 400, "malformed_request", "header"),
    (
        "a space before the colon",
        HEAD + b"Authorization : " + SECRET.encode() + b"\r\n\r\n",
        400,
        "malformed_request",
        "header",
    ),
    (
        "an over-long line",
        b"GET /?token=" + SECRET.encode() * 900 + b" HTTP/1.1\r\n\r\n",
        414,
        "uri_too_long",
        "long_line",
    ),
    ("a method that is none", f"GEFT /?token={SECRET} HTTP/1.1\r\n\r\n".encode(), 400, "malformed_request", "method"),
    ("a method in lower case", f"get /?token={SECRET} HTTP/1.1\r\n\r\n".encode(), 400, "malformed_request", "method"),
    (
        "a version that is none",
        f"GET /?token={SECRET} HTTP/9\r\n\r\n".encode(),
        400,
        "malformed_request",
        "request_line",
    ),
    ("a later version", f"GET /?token={SECRET} HTTP/3.0\r\n\r\n".encode(), 505, "version_not_supported", "version"),
    ("an earlier version", f"GET /?token={SECRET}\r\n\r\n".encode(), 505, "version_not_supported", "version"),
    ("HTTP/2", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505, "version_not_supported", "version"),
    ("TLS", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + SECRET.encode(), 400, "malformed_request", "tls"),
    ("another protocol", f"AUTH {SECRET}\r\n".encode(), 400, "malformed_request", "method"),
    ("nonsense", b"\xff\xfe\x00" + SECRET.encode() + b"\r\n\r\n", 400, "malformed_request", "method"),
    (
        "a line without a CR",
        f"GET /?token={SECRET} HTTP/1.1\nHost: x\n\n".encode(),
        400,
        "malformed_request",
        "request_line",
    ),
    (
        "a control character in the address",
        f"GET /{SECRET}\x01 HTTP/1.1\r\n\r\n".encode(),
        400,
        "malformed_request",
        "target",
    ),
    (
        "an address that is none",
        f"GET {SECRET} HTTP/1.1\r\nHost: x\r\n\r\n".encode(),
        400,
        "malformed_request",
        "target",
    ),
    (
        "an address without a host",
        f"GET http://[{SECRET} HTTP/1.1\r\nHost: x\r\n\r\n".encode(),
        400,
        "malformed_request",
        "target",
    ),
    ("no host", f"GET /?token={SECRET} HTTP/1.1\r\n\r\n".encode(), 400, "malformed_request", "host"),
    ("two hosts", HEAD + b"Host: " + SECRET.encode() + b"\r\n\r\n", 400, "malformed_request", "host"),
    ("two tokens", BEARER + b"\r\nContent-Type: a\r\nContent-Type: b\r\n\r\n", 400, "malformed_request", "header"),
    (
        "a length that is no number",
        POST + b"Content-Length: " + SECRET.encode() + b"\r\n\r\n",
        400,
        "malformed_request",
        "length",
    ),
    ("a negative length", POST + b"Content-Length: -1\r\n\r\n", 400, "malformed_request", "length"),
    ("a huge length", POST + b"Content-Length: " + b"9" * 30 + b"\r\n\r\n", 400, "malformed_request", "length"),
    ("two lengths", POST + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\n", 400, "malformed_request", "length"),
    (
        "a length and chunks",
        POST + b"Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
        400,
        "malformed_request",
        "length",
    ),
    (
        "chunks and a length",
        POST + b"Transfer-Encoding: chunked\r\nContent-Length: 1\r\n\r\n",
        400,
        "malformed_request",
        "length",
    ),
    ("an unknown transfer coding", POST + b"Transfer-Encoding: gzip\r\n\r\n", 400, "malformed_request", "length"),
    ("chunks in chunks", POST + b"Transfer-Encoding: chunked, chunked\r\n\r\n", 400, "malformed_request", "length"),
    ("a chunk without a size", CHUNKED + SECRET.encode() + b"\r\n", 400, "malformed_request", "malformed"),
]


@pytest.mark.parametrize(
    ("sent", "status", "code", "kind"), [pytest.param(*each[1:], id=each[0]) for each in MALFORMED]
)
async def test_what_is_malformed_gets_a_problem_and_one_line_that_quotes_nothing(
    refusing_managed: Api, caplog: pytest.LogCaptureFixture, sent: bytes, status: int, code: str, kind: str
) -> None:
    caplog.set_level(logging.DEBUG)
    response = await answer_to(refusing_managed.base_url, sent)
    problem = response.problem(status, code)
    assert problem["detail"]
    assert SECRET.encode() not in response.text
    assert response.headers["Connection"] == "close"
    await until(lambda: len(done(caplog)) == 1)
    (line,) = (vars(record) for record in caplog.records if record.name.startswith(("api", "aiohttp", "vm_webapp")))
    assert (line["msg"], line["status"], line["kind"]) == ("request.done", status, kind)
    assert (line["request_id"], line["address"]) == (problem["request_id"], "127.0.0.1")
    assert line["levelno"] in (logging.INFO, logging.WARNING)
    assert not line["exc_info"]
    assert (line["path"], line["route"], line["actor"]) == (None, None, None)
    for record in caplog.records:
        assert SECRET not in repr(vars(record))


async def test_the_wait_for_a_response_survives_what_is_still_being_sent(refusing: Api) -> None:
    async with raw_connection(refusing.base_url) as connection:
        connection.send(BEARER + b"x" * 4_000_000)
        (await connection.response()).problem(431, "headers_too_large")
        assert await connection.ended() == b""


@pytest.mark.parametrize("broken", [b"zz\r\n", b'4\r\n{"abX\r\n', b"-1\r\n", b"1" * 40 + b"\r\n"])
async def test_a_body_that_becomes_malformed_is_refused_at_once(
    refusing: Api, caplog: pytest.LogCaptureFixture, broken: bytes
) -> None:
    caplog.set_level(logging.DEBUG)
    async with raw_connection(refusing.base_url) as connection:
        connection.send(POST + b"Transfer-Encoding: chunked\r\nExpect: 100-continue\r\n\r\n")
        assert (await connection.response()).status == 100
        connection.send(b'2\r\n{"\r\n')
        connection.send(broken)
        (await connection.response()).problem(400, "unreadable_body")
        assert await connection.ended() == b""
    (line,) = done(caplog)
    assert (line["status"], line["route"]) == (400, "/api/v2/runs")
    assert not [record for record in caplog.records if record.exc_info]


async def test_a_malformed_body_that_nobody_reads_harms_nobody(
    refusing_managed: Api, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    async with raw_connection(refusing_managed.base_url) as connection:
        connection.send(CHUNKED)
        (await connection.response()).problem(401, "unauthorized")
        connection.send(b"zz\r\n")
        assert await connection.ended() == b""
    assert [line["status"] for line in done(caplog)] == [401]
    assert not [record for record in caplog.records if record.levelno > logging.INFO]


async def test_an_error_outside_every_handler_is_a_problem_and_its_text_stays_out_of_the_log(
    serving: Serving, untouched: None, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    async with serving(sub_apps={"/broken": broken()}) as api:
        for path, error in (("handler", "RuntimeError"), ("nothing", "TypeError"), ("signal", "ValueError")):
            caplog.clear()
            response = await answer_to(api.base_url, f"GET /broken/{path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
            problem = response.problem(500, "internal_error")
            (crash,) = [vars(each) for each in caplog.records if each.msg == "request.crashed"]
            assert (crash["request_id"], crash["error"]) == (problem["request_id"], error)
            assert path == "nothing" or "test_connections.py" in crash["at"]
            await until(lambda: len(done(caplog)) == 1)
            assert done(caplog)[0]["kind"] == "crashed"
            assert SECRET not in caplog.text
            assert "Traceback" not in caplog.text


def broken() -> web.Application:
    """Return a sub-application without any middleware, whose handlers and signals fail."""

    async def handler(request: web.Request) -> web.Response:
        raise RuntimeError(SECRET)

    async def nothing(request: web.Request) -> web.Response:
        return None  # type: ignore[return-value]

    async def signal(request: web.Request) -> web.Response:
        return web.Response(headers={"X-Fails": "1"})

    async def fail(request: web.Request, response: web.StreamResponse) -> None:
        if "X-Fails" in response.headers:
            raise ValueError(SECRET)

    async def page(request: web.Request) -> web.Response:
        raise web.HTTPForbidden

    app = web.Application()
    app.add_routes(
        [web.get("/handler", handler), web.get("/nothing", nothing), web.get("/signal", signal), web.get("/page", page)]
    )
    app.on_response_prepare.append(fail)
    return app


async def test_an_error_that_a_handler_of_pages_raises_is_a_problem(serving: Serving, untouched: None) -> None:
    async with serving(sub_apps={"/broken": broken()}) as api:
        response = await answer_to(api.base_url, b"GET /broken/page HTTP/1.1\r\nHost: localhost\r\n\r\n")
        response.problem(403, "http_error")


@pytest.mark.parametrize("path", ["/", "/api/v2/nothing", "/api/v2/runs"])
async def test_an_unknown_expectation_is_a_problem_on_every_path(refusing: Api, path: str) -> None:
    sent = f"GET {path} HTTP/1.1\r\nHost: localhost\r\nExpect: {SECRET}\r\n\r\n".encode()
    response = await answer_to(refusing.base_url, sent)
    response.problem(417, "expectation_failed")
    assert SECRET.encode() not in response.text


@pytest.mark.parametrize(
    ("line", "status"),
    [
        ("CONNECT localhost:443 HTTP/1.1", 404),
        ("OPTIONS * HTTP/1.1", 404),
        ("GET http://localhost/nothing HTTP/1.1", 404),
        ("GET /%zz?%zz HTTP/1.1", 404),
        ("TRACE /api/v2/runs HTTP/1.1", 405),
    ],
)
async def test_odd_requests_that_are_http_are_answered_by_the_application(
    refusing: Api, line: str, status: int
) -> None:
    response = await answer_to(refusing.base_url, f"{line}\r\nHost: localhost\r\n\r\n".encode())
    response.problem(status, {404: "not_found", 405: "method_not_allowed"}[status])


@pytest.mark.parametrize("protocol", [b"websocket", b"h2c"])
async def test_a_request_for_an_upgrade_is_served_without_one(refusing: Api, protocol: bytes) -> None:
    async with raw_connection(refusing.base_url) as connection:
        connection.send(HEAD + b"Connection: Upgrade\r\nUpgrade: " + protocol + b"\r\n\r\n")
        assert (await connection.response()).status == 200
        connection.send(PROBE)
        assert (await connection.response()).status == 200
        connection.send(BEARER + b"\0\r\n\r\n")
        (await connection.response()).problem(400, "malformed_request")


async def test_what_comes_behind_a_request_for_an_upgrade_is_looked_at_too(refusing: Api) -> None:
    upgrade = HEAD + b"Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
    for behind, status in ((BEARER + b"\0\r\n\r\n", 400), (b"GET /\r\n\r\n", 505)):
        async with raw_connection(refusing.base_url) as connection:
            connection.send(upgrade + behind)
            assert (await connection.response()).status == 200
            assert (await connection.response()).status == status
            assert await connection.ended() == b""


async def test_a_flood_of_pipelined_requests_is_served_in_order(refusing: Api) -> None:
    async with raw_connection(refusing.base_url) as connection:
        connection.send(b"".join(HEAD + b"X-Request-ID: %d\r\n\r\n" % each for each in range(500)))
        for each in range(500):
            response = await connection.response()
            assert (response.status, response.headers["X-Request-ID"]) == (200, str(each))


async def test_every_answer_that_is_not_the_applications_has_the_security_headers(refusing: Api) -> None:
    for _, sent, *_ in MALFORMED:
        response = await answer_to(refusing.base_url, sent)
        assert response.headers.items() >= {**SECURITY_HEADERS, "Cache-Control": "no-store"}.items()
        assert "aiohttp" not in response.headers["Server"]
