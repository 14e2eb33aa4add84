"""The client's errors: one class and one line for each way in which a call can fail."""

from __future__ import annotations

import asyncio

import pytest

from tests.fakes.stranger import hanging, speaking
from tests.support.resolver import hanging_resolver
from vm_webapp.client import open_api
from vm_webapp.client.errors import (
    AccessDenied,
    ApiError,
    BadAddress,
    ConnectionBroken,
    NoResponse,
    NotThisApi,
    Refused,
    TimedOut,
    Unreachable,
    error_of,
)
from vm_webapp.client.responses import ApiResponse
from vm_webapp.errors import ConfigurationError

ADDRESS = "http://api.example"
NOT_THIS_API = "http://api.example is not this API: it responded"
FROM_A_PROXY = "the API at http://api.example does not respond: a proxy in front of it responded"


@pytest.mark.parametrize(
    ("status", "reason", "content", "kind", "text"),
    [
        (409, "Conflict", b'{"type":"/problems/conflict","detail":"not now"}', Refused, "not now"),
        (409, "Conflict", b'{"type":"/problems/conflict"}', Refused, "Conflict"),
        (503, "", b'{"type":"/problems/unavailable","detail":"later"}', Refused, "later"),
        (401, "", b'{"type":"/problems/unauthorized","detail":"a token"}', AccessDenied, "a token"),
        (403, "", b'{"type":"/problems/forbidden","detail":"a role"}', AccessDenied, "a role"),
        (401, "Unauthorized", b"go away", NotThisApi, f"{NOT_THIS_API} 401 Unauthorized; check --base-url"),
        (404, "Not Found", b'{"detail":"Not Found"}', NotThisApi, f"{NOT_THIS_API} 404 Not Found; check --base-url"),
        (404, "", b'{"type":7}', NotThisApi, f"{NOT_THIS_API} 404; check --base-url"),
        (302, "Found", b"", NotThisApi, f"{NOT_THIS_API} 302 Found; check --base-url"),
        (200, "OK", b"[]", NotThisApi, f"{NOT_THIS_API} 200 OK; check --base-url"),
        (200, "OK", b"[" * 100_000, NotThisApi, f"{NOT_THIS_API} 200 OK; check --base-url"),
        (200, "OK", b"\xff", NotThisApi, f"{NOT_THIS_API} 200 OK; check --base-url"),
        (502, "Bad Gateway", b"<html>", NoResponse, f"{FROM_A_PROXY} 502 Bad Gateway"),
        (503, "", b'{"message":"asleep"}', NoResponse, f"{FROM_A_PROXY} 503"),
        (429, "Too Many Requests", b"<p>slow down</p>", NoResponse, f"{FROM_A_PROXY} 429 Too Many Requests"),
        (429, "", b'{"type":"/problems/rate_limited","detail":"in 5 s"}', Refused, "in 5 s"),
    ],
)
def test_an_unexpected_response_maps_to_one_error(
    status: int, reason: str, content: bytes, kind: type[ApiError], text: str
) -> None:
    response = ApiResponse("GET /queue", status, reason, content)
    error = error_of(response, ADDRESS)
    assert (type(error), str(error), error.response) == (kind, text, response)


def test_a_refusal_has_the_code_of_its_problem() -> None:
    error = error_of(ApiResponse("POST /runs", 409, "", b'{"type":"/problems/draft_changed"}'), ADDRESS)
    assert error.code == "draft_changed"


@pytest.mark.parametrize("kind", [AccessDenied, NotThisApi, BadAddress])
def test_an_error_that_other_options_would_avoid_is_exit_code_2(kind: type[ApiError]) -> None:
    assert issubclass(kind, ConfigurationError)


@pytest.mark.parametrize("kind", [NoResponse, Refused])
def test_an_error_that_the_api_causes_is_exit_code_1(kind: type[ApiError]) -> None:
    assert not issubclass(kind, ConfigurationError)


@pytest.mark.parametrize(
    ("content", "lacks"),
    [(b"{}", None), (b"[]", "an object"), (b"null", "an object"), (b"", "JSON"), (b"<html>", "JSON")],
)
def test_a_response_names_what_its_body_lacks(content: bytes, lacks: str | None) -> None:
    assert ApiResponse("GET /queue", 200, "OK", content).missing == lacks


async def test_an_unreachable_address_is_reported_with_the_connections_error() -> None:
    async with open_api("http://127.0.0.1:1/", trust_env=False) as client:
        with pytest.raises(Unreachable) as unreachable:
            await client.queue.status()
    said = unreachable.value.reason
    assert said
    assert str(unreachable.value) == f"the API at http://127.0.0.1:1 does not respond: {said}"


async def test_a_lookup_that_takes_too_long_leaves_the_address_unreachable() -> None:
    with hanging_resolver("api.internal"):
        async with open_api("http://api.internal", trust_env=False, timeout_seconds=0.3) as client:
            with pytest.raises(Unreachable, match="no connection in time"):
                await client.queue.status()


async def test_a_request_on_a_connection_that_was_opened_before_is_a_time_out() -> None:
    async def respond(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")
        await reader.read()
        writer.close()

    async with speaking(respond) as address, open_api(address, trust_env=False, timeout_seconds=0.3) as client:
        await client.queue.status()
        with pytest.raises(TimedOut):
            await client.queue.status()


@pytest.mark.parametrize("drip", [b"", b" "])
async def test_a_response_that_does_not_end_is_a_time_out(drip: bytes) -> None:
    async with (
        hanging(b"HTTP/1.1 200 OK\r\nContent-Length: 999\r\n\r\n", drip) as address,
        open_api(address, trust_env=False, timeout_seconds=0.3) as client,
    ):
        with pytest.raises(TimedOut, match=r"does not respond within 0\.3 s"):
            await client.queue.status()


async def test_a_server_that_does_not_speak_http_is_a_broken_connection() -> None:
    async with hanging(b"SSH-2.0-OpenSSH_9.6\r\n\r\n") as address, open_api(address, trust_env=False) as client:
        with pytest.raises(ConnectionBroken):
            await client.queue.status()


async def test_an_address_that_is_not_a_url_is_reported_at_once() -> None:
    with pytest.raises(BadAddress, match="--base-url is not a URL"):
        async with open_api("http://127.0.0.1:x", trust_env=False):
            pass
    async with open_api("ftp://127.0.0.1", trust_env=False) as client:
        with pytest.raises(BadAddress, match="--base-url is not a URL"):
            await client.queue.status()
