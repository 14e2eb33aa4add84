"""Classifies the error responses of an OpenAI-compatible server: pure functions of status, headers, body and time."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from typing import Any

from vm_webapp.llm.errors import (
    LLMBadRequest,
    LLMError,
    LLMForbidden,
    LLMNotFound,
    LLMOverloaded,
    LLMPaymentRequired,
    LLMProtocolError,
    LLMQuotaExceeded,
    LLMRateLimited,
    LLMUnauthorized,
)
from vm_webapp.text import single_line, storable

LONGEST_MESSAGE = 300
SECRET = re.compile(r"\bsk-[A-Za-z0-9_-]{4,}")
LAST_WORD = re.compile(r"[^\s\"'(){}\[\]<>]*$")
QUOTA = ("exceeded_current_quota", "insufficient_quota", "usage limit")
CLIENT_NOT_LISTED = (
    "the server of KIMI_BASE_URL admits only listed clients, and this is not one of them:"
    " use a key of the open platform with KIMI_BASE_URL=https://api.moonshot.ai/v1"
)


def classify(status: int, headers: Mapping[str, str], body: bytes, *, now: float) -> LLMError:
    """Return the error for a response with a status other than 200.

    Args:
        status: the HTTP status.
        headers: the response's headers, looked up by lower-case names.
        body: as much of the body as was read: JSON, HTML, empty, or cut off.
        now: the time, in seconds since 1970.
    """
    kind, message = _read_error(body)
    said = f"HTTP {status}: {message or kind}" if message or kind else f"HTTP {status}"
    retry_after = parse_retry_after(headers.get("retry-after"), now=now)
    if status == 429:
        return _too_many(kind, message, said, retry_after)
    if status == 403:
        return _forbidden(kind, message, said, retry_after)
    if status in (408, 425) or status >= 500:
        return LLMOverloaded(said, retry_after=retry_after)
    plain: dict[int, type[LLMError]] = {401: LLMUnauthorized, 402: LLMPaymentRequired}
    if status in plain:
        return plain[status](said)
    # The client follows no redirect: the key must not go to another server.
    if status == 404 or 300 <= status < 400:
        return LLMNotFound(f"{said}; check KIMI_BASE_URL and KIMI_MODEL")
    return LLMBadRequest(said)


def classify_in_stream(error: Any) -> LLMError:
    """Return the error for an error object within a stream, which has no HTTP status of its own."""
    kind, message = _read_error(json.dumps({"error": error}).encode())
    said = f"the stream ended with an error: {message or kind or 'no reason given'}"
    text = f"{kind} {message}".lower()
    if any(word in text for word in ("rate_limit", "overloaded", "concurren", "quota", "usage limit")):
        return _too_many(kind, message, said, None)
    return LLMOverloaded(said) if "server_error" in kind else LLMProtocolError(said)


def parse_retry_after(value: str | None, *, now: float) -> float | None:
    """Return the seconds that a ``Retry-After`` header asks for (RFC 9110, 10.2.3), None if it is not usable.

    Args:
        value: the header, a number of seconds or a date; None if there is none.
        now: the time that a date is compared with, in seconds since 1970.
    """
    if not value:
        return None
    try:
        seconds = float(value)
    except ValueError:
        try:
            seconds = parsedate_to_datetime(value).timestamp() - now
        except (ValueError, TypeError, OverflowError):
            return None
    return seconds if 0 <= seconds < 86_400 * 7 else None


def one_line(text: str, *, longest: int = LONGEST_MESSAGE) -> str:
    """Return a text as the timeline shows it: one line, short, without anything that looks like a key."""
    line = SECRET.sub("[key]", single_line(storable(text)))
    if len(line) <= longest:
        return line
    # Never cut within a word: the caller removes the key later, and would not recognise half of it.
    return LAST_WORD.sub("", line[:longest]).rstrip() + "…"


def _too_many(kind: str, message: str, said: str, retry_after: float | None) -> LLMError:
    text = f"{kind} {message}".lower()
    # The word "quota" alone proves nothing: a rate limit may be worded as "quota of 20 requests a minute".
    if any(word in text for word in QUOTA) or ("quota" in text and "rate_limit" not in kind):
        return LLMQuotaExceeded(said)
    if "overloaded" in text:
        return LLMOverloaded(said, retry_after=retry_after)
    return LLMRateLimited(said, retry_after=retry_after)


def _forbidden(kind: str, message: str, said: str, retry_after: float | None) -> LLMError:
    text = message.lower()
    # Kimi's type ``access_terminated_error`` stands for a client that is not listed, for a subscription that is used
    # up, and for too many calls at once; only the message distinguishes them.
    if "usage limit" in text or "quota" in text:
        return LLMQuotaExceeded(said)
    if "concurren" in text:
        return LLMRateLimited(said, retry_after=retry_after)
    if kind == "access_terminated_error":
        return LLMForbidden(f"{said}; {CLIENT_NOT_LISTED}")
    return LLMForbidden(said)


def _read_error(body: bytes) -> tuple[str, str]:
    """Return the type and the message in an error body of any kind; empty where it has none."""
    text = body.decode(errors="replace").strip()
    try:
        error = json.loads(text)["error"]
        if isinstance(error, str):
            return "", one_line(error)
        return one_line(str(error.get("type") or error.get("code") or "")), one_line(str(error.get("message") or ""))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        pass
    if title := re.search(r"<title[^>]*>(.*?)</title>", text, re.IGNORECASE | re.DOTALL):
        return "", one_line(title.group(1))
    if text.startswith("<"):
        return "", "an HTML page"
    # A JSON body that was cut off still has a type or the start of a message; the last, incomplete word is dropped.
    kind = re.search(r'"type"\s*:\s*"([^"]+)"', text)
    message = re.search(r'"message"\s*:\s*"([^"]*)(?=["\s])', text)
    if text.startswith("{") and not text.endswith("}"):
        text = LAST_WORD.sub("", text)
    return (one_line(kind.group(1)) if kind else ""), one_line(message.group(1) if message else text)
