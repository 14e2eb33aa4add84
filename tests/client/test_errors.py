"""What goes wrong between the client and an API, or whatever answers in its place: one error and one line for each."""

from __future__ import annotations

import pytest

from tests.fakes.stranger import hanging
from vm_webapp.client import open_api
from vm_webapp.client.answers import Answer
from vm_webapp.client.errors import (
    ApiError,
    BadAddress,
    BrokenOff,
    NotLetIn,
    NotThisApi,
    Refused,
    TimedOut,
    Unanswered,
    Unreachable,
    error_of,
)
from vm_webapp.errors import ConfigurationError

ADDRESS = "http://api.example"
NOT_THIS_API = "http://api.example is not this API: it answered"
STANDS_BEFORE = "the API at http://api.example does not answer: what stands before it says"


@pytest.mark.parametrize(
    ("status", "reason", "content", "kind", "text"),
    [
        (409, "Conflict", b'{"type":"/problems/conflict","detail":"not now"}', Refused, "not now"),
        (409, "Conflict", b'{"type":"/problems/conflict"}', Refused, "Conflict"),
        (503, "", b'{"type":"/problems/unavailable","detail":"later"}', Refused, "later"),
        (401, "", b'{"type":"/problems/unauthorized","detail":"a token"}', NotLetIn, "a token"),
        (403, "", b'{"type":"/problems/forbidden","detail":"a role"}', NotLetIn, "a role"),
        (401, "Unauthorized", b"go away", NotThisApi, f"{NOT_THIS_API} 401 Unauthorized; check --base-url"),
        (404, "Not Found", b'{"detail":"Not Found"}', NotThisApi, f"{NOT_THIS_API} 404 Not Found; check --base-url"),
        (404, "", b'{"type":7}', NotThisApi, f"{NOT_THIS_API} 404; check --base-url"),
        (302, "Found", b"", NotThisApi, f"{NOT_THIS_API} 302 Found; check --base-url"),
        (200, "OK", b"[]", NotThisApi, f"{NOT_THIS_API} 200 OK; check --base-url"),
        (200, "OK", b"[" * 100_000, NotThisApi, f"{NOT_THIS_API} 200 OK; check --base-url"),
        (200, "OK", b"\xff", NotThisApi, f"{NOT_THIS_API} 200 OK; check --base-url"),
        (502, "Bad Gateway", b"<html>", Unanswered, f"{STANDS_BEFORE} 502 Bad Gateway"),
        (503, "", b'{"message":"asleep"}', Unanswered, f"{STANDS_BEFORE} 503"),
    ],
)
def test_an_answer_that_was_not_asked_for_has_one_meaning(
    status: int, reason: str, content: bytes, kind: type[ApiError], text: str
) -> None:
    answer = Answer("GET /queue", status, reason, content)
    error = error_of(answer, ADDRESS)
    assert (type(error), str(error), error.answer) == (kind, text, answer)


def test_a_refusal_has_the_code_of_its_problem() -> None:
    error = error_of(Answer("POST /runs", 409, "", b'{"type":"/problems/draft_changed"}'), ADDRESS)
    assert error.code == "draft_changed"


@pytest.mark.parametrize("kind", [NotLetIn, NotThisApi, BadAddress])
def test_what_another_command_line_would_change_is_exit_code_2(kind: type[ApiError]) -> None:
    assert issubclass(kind, ConfigurationError)


@pytest.mark.parametrize("kind", [Unanswered, Refused])
def test_what_the_api_answers_for_is_exit_code_1(kind: type[ApiError]) -> None:
    assert not issubclass(kind, ConfigurationError)


@pytest.mark.parametrize(
    ("content", "lacks"),
    [(b"{}", None), (b"[]", "an object"), (b"null", "an object"), (b"", "JSON"), (b"<html>", "JSON")],
)
def test_what_an_answer_lacks_is_told(content: bytes, lacks: str | None) -> None:
    assert Answer("GET /queue", 200, "OK", content).lacks == lacks


async def test_nobody_there_is_told_with_what_the_connection_says() -> None:
    async with open_api("http://127.0.0.1:1/", trust_env=False) as client:
        with pytest.raises(Unreachable) as unreachable:
            await client.queue.status()
    said = unreachable.value.said
    assert said
    assert str(unreachable.value) == f"the API at http://127.0.0.1:1 does not answer: {said}"


@pytest.mark.parametrize("drip", [b"", b" "])
async def test_an_answer_that_does_not_end_is_a_time_out(drip: bytes) -> None:
    async with (
        hanging(b"HTTP/1.1 200 OK\r\nContent-Length: 999\r\n\r\n", drip) as address,
        open_api(address, trust_env=False, answer_seconds=0.3) as client,
    ):
        with pytest.raises(TimedOut, match=r"does not answer within 0\.3 s"):
            await client.queue.status()


async def test_what_does_not_speak_http_breaks_off() -> None:
    async with hanging(b"SSH-2.0-OpenSSH_9.6\r\n\r\n") as address, open_api(address, trust_env=False) as client:
        with pytest.raises(BrokenOff):
            await client.queue.status()


async def test_an_address_that_is_none_is_said_at_once() -> None:
    with pytest.raises(BadAddress, match="--base-url is not a URL"):
        async with open_api("http://127.0.0.1:x", trust_env=False):
            pass
    async with open_api("ftp://127.0.0.1", trust_env=False) as client:
        with pytest.raises(BadAddress, match="--base-url is not a URL"):
            await client.queue.status()
