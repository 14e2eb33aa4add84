"""Classifying error responses: tables of status, headers and body."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fakes.behaviours import HTML_ERROR, REFUSALS, error_body
from vm_webapp.llm import errors
from vm_webapp.llm.errors import LLMError
from vm_webapp.llm.kimi_errors import LONGEST_MESSAGE, classify, classify_object, one_line, parse_retry_after

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
LISTED = "Kimi For Coding is currently only available for Coding Agents"
PERMANENT = (
    errors.LLMNotConfigured,
    errors.LLMUnauthorized,
    errors.LLMPaymentRequired,
    errors.LLMForbidden,
    errors.LLMQuotaExceeded,
    errors.LLMNotFound,
    errors.LLMModelNotFound,
    errors.LLMBadRequest,
    errors.LLMContextExceeded,
    errors.LLMContentFiltered,
)
RETRYABLE = (
    errors.LLMRateLimited,
    errors.LLMOverloaded,
    errors.LLMInterrupted,
    errors.LLMConnectionError,
    errors.LLMTimeout,
    errors.LLMSilent,
    errors.LLMEmptyCompletion,
    errors.LLMProtocolError,
)


def classified(status: int, body: bytes = b"", headers: dict[str, str] | None = None) -> LLMError:
    return classify(status, headers or {}, body, now=NOW.timestamp())


@pytest.mark.parametrize(
    ("status", "kind", "message", "expected"),
    [
        (400, "invalid_request_error", "invalid temperature", errors.LLMBadRequest),
        (
            400,
            "content_filter",
            "The request was rejected because it was considered high risk",
            errors.LLMContentFiltered,
        ),
        (401, "invalid_authentication_error", "Invalid Authentication", errors.LLMUnauthorized),
        (402, "payment_required_error", "No membership", errors.LLMPaymentRequired),
        (403, "access_terminated_error", LISTED, errors.LLMForbidden),
        (403, "permission_denied_error", "The API you are accessing is not open", errors.LLMForbidden),
        (403, "access_terminated_error", "You've reached your concurrent request limit.", errors.LLMRateLimited),
        (403, "access_terminated_error", "You've reached your weekly usage limit.", errors.LLMQuotaExceeded),
        (403, "permission_error", "Your quota will be refreshed in the next cycle.", errors.LLMQuotaExceeded),
        (404, "resource_not_found_error", "Not found the model", errors.LLMModelNotFound),
        (405, "", "", errors.LLMNotFound),
        (408, "", "", errors.LLMOverloaded),
        (413, "", "", errors.LLMBadRequest),
        (422, "", "", errors.LLMBadRequest),
        (425, "", "", errors.LLMOverloaded),
        (429, "engine_overloaded_error", "The engine is currently overloaded", errors.LLMOverloaded),
        (429, "rate_limit_error", "The engine is currently overloaded", errors.LLMOverloaded),
        (429, "rate_limit_reached_error", "max RPM: 20, please try again after 1 seconds", errors.LLMRateLimited),
        (429, "rate_limit_reached_error", "quota of 20 requests a minute", errors.LLMRateLimited),
        (429, "rate_limit_reached_error", "usage limit for this period", errors.LLMQuotaExceeded),
        (429, "exceeded_current_quota_error", "check your plan", errors.LLMQuotaExceeded),
        (429, "insufficient_quota", "You exceeded your current quota", errors.LLMQuotaExceeded),
        (429, "", "", errors.LLMRateLimited),
        (500, "server_error", "Internal server error", errors.LLMOverloaded),
        (502, "", "", errors.LLMOverloaded),
        (503, "", "", errors.LLMOverloaded),
        (529, "", "", errors.LLMOverloaded),
        (301, "", "", errors.LLMNotFound),
        (308, "", "", errors.LLMNotFound),
    ],
)
def test_status_type_and_message_decide_the_error(
    status: int, kind: str, message: str, expected: type[LLMError]
) -> None:
    error = classified(status, error_body(kind, message))
    assert type(error) is expected
    assert f"HTTP {status}" in str(error)
    assert message in str(error)


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"", "HTTP 500"),
        (b"  \n ", "HTTP 500"),
        (HTML_ERROR, "HTTP 500: 502 Bad Gateway"),
        (b"<HTML><TITLE\n lang=en>Too\n busy</TITLE>", "HTTP 500: Too busy"),
        (b"<html><body>oops</body></html>", "HTTP 500: an HTML page"),
        (b"upstream connect error", "HTTP 500: upstream connect error"),
        (b'{"error":"just text"}', "HTTP 500: just text"),
        (b'{"error":{"type":"server_error"}}', "HTTP 500: server_error"),
        (b'{"error":{"code":"E17"}}', "HTTP 500: E17"),
        (b'{"error":null}', 'HTTP 500: {"error":null}'),
        (b'{"message":"no error object"}', "HTTP 500: no error object"),
        (b'{"detail":"another shape"}', "HTTP 500: another shape"),
        (b"[1, 2]", "HTTP 500: [1, 2]"),
        (b'{"error":{"type":"server_error","message":"The engine broke do', "HTTP 500: The engine broke"),
        (b'{"error":{"message":"The engine broke","ty', "HTTP 500: The engine broke"),
        (b"\xff\xfe\x00", "HTTP 500: \ufffd\ufffd"),
        (b'{"error":{"message":"a\\u0000b\\ud800c"}}', "HTTP 500: ab?c"),
    ],
)
def test_a_body_of_any_kind_gives_a_message(body: bytes, said: str) -> None:
    assert str(classified(500, body)) == said


def test_the_error_of_an_unlisted_client_names_the_alternative() -> None:
    error = classified(403, error_body("access_terminated_error", LISTED))
    assert "KIMI_BASE_URL=https://api.moonshot.ai/v1" in str(error)


def test_the_error_of_a_used_up_subscription_does_not_blame_the_base_url() -> None:
    assert "KIMI_BASE_URL" not in str(classified(403, REFUSALS["subscription_used_up"].body or b""))


@pytest.mark.parametrize("status", [403, 429, 503])
def test_retry_after_is_kept_for_retryable_errors(status: int) -> None:
    body = error_body("", "too many concurrent requests")
    assert classified(status, body, {"retry-after": "20"}).retry_after == 20


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (None, None),
        ("", None),
        ("0", 0),
        ("1.5", 1.5),
        (" 30 ", 30),
        ("-1", None),
        ("nan", None),
        ("inf", None),
        ("1e9", None),
        ("soon", None),
        (format_datetime(NOW + timedelta(seconds=90), usegmt=True), 90),
        (format_datetime(NOW - timedelta(seconds=90), usegmt=True), None),
        ("Sun, 01 Mar 2026 12:00:05 GMT", 5),
        ("Sun, 99 Mar 2026 12:00:05 GMT", None),
    ],
)
def test_retry_after_is_seconds_or_a_date(value: str | None, seconds: float | None) -> None:
    assert parse_retry_after(value, now=NOW.timestamp()) == seconds


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        ({"type": "engine_overloaded_error", "message": "busy"}, errors.LLMOverloaded),
        ({"type": "rate_limit_reached_error", "message": "slow down"}, errors.LLMRateLimited),
        ({"message": "concurrent request limit"}, errors.LLMRateLimited),
        ({"message": "usage limit for this period"}, errors.LLMQuotaExceeded),
        ({"type": "server_error", "message": "oops"}, errors.LLMOverloaded),
        ({"message": ""}, errors.LLMProtocolError),
        ("text", errors.LLMProtocolError),
        ([1], errors.LLMProtocolError),
        (True, errors.LLMProtocolError),
    ],
)
def test_an_error_object_in_a_stream_is_classified_without_a_status(error: object, expected: type[LLMError]) -> None:
    found = classify_object(error)
    assert type(found) is expected
    assert str(found).startswith("the stream ended with an error: ")
    assert "HTTP" not in str(found)


@pytest.mark.parametrize("kind", PERMANENT)
def test_permanent_failures_are_not_tried_again(kind: type[LLMError]) -> None:
    assert kind.permanent
    assert not kind.overload


@pytest.mark.parametrize("kind", RETRYABLE)
def test_other_failures_are_tried_again_and_pause_nothing_at_once(kind: type[LLMError]) -> None:
    assert not kind.permanent
    assert not kind.pauses_provider


def test_every_error_has_its_own_code_and_is_permanent_or_retryable() -> None:
    kinds = set(LLMError.__subclasses__())
    assert kinds == {*PERMANENT, *RETRYABLE}
    assert len({kind.code for kind in kinds}) == len(kinds)


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("a\n\tb   c", "a b c"),
        ("the key sk-abcd1234 is wrong", "the key [key] is wrong"),
        ("a risk-based, task-force-like word stays", "a risk-based, task-force-like word stays"),
        ("a\x00b", "ab"),
        ("\ud83d", "?"),
        ("x" * 400, "…"),
        ("word " * 100, "word " * 59 + "word…"),
    ],
)
def test_a_line_is_fit_for_the_timeline(text: str, line: str) -> None:
    assert one_line(text) == line


@settings(deadline=None)
@given(st.text(), st.text(alphabet=st.characters(min_codepoint=33, max_codepoint=126), min_size=8, max_size=60))
def test_a_line_is_short_and_storable_whatever_it_is_made_of(text: str, word: str) -> None:
    line = one_line(f"{text} {word} " * 9)
    assert len(line) <= LONGEST_MESSAGE + 1
    assert len(line.splitlines()) <= 1
    assert "\x00" not in line
    line.encode()


@settings(deadline=None)
@given(st.integers(300, 599), st.binary(max_size=300))
def test_any_response_becomes_an_error(status: int, body: bytes) -> None:
    assert isinstance(classified(status, body), LLMError)
