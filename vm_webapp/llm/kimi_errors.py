"""What a refusal of an OpenAI-compatible server means. Pure: status, headers and body in, one error out."""

from __future__ import annotations

import json
import re
import time
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

LONGEST_MESSAGE = 300
SECRET = re.compile(r"sk-[A-Za-z0-9_-]{4,}")
CLIENT_NOT_LISTED = (
    "the server of KIMI_BASE_URL admits only listed clients, and this is not one of them:"
    " use a key of the open platform with KIMI_BASE_URL=https://api.moonshot.ai/v1"
)


def classify(status: int, headers: Mapping[str, str], body: bytes) -> LLMError:
    """Return the error that an answer other than 200 stands for.

    Args:
        status: the HTTP status.
        headers: the answer's headers.
        body: as much of the body as was read; JSON, HTML, nothing or the half of one.
    """
    kind, message = _read_error(body)
    said = f"HTTP {status}: {message}" if message else f"HTTP {status}"
    retry_after = parse_retry_after(headers.get("retry-after"))
    text = f"{kind} {message}".lower()
    if status == 429:
        return _too_many(text, said, retry_after)
    if status == 403:
        return _forbidden(text, said, retry_after)
    if status in (408, 425) or status >= 500:
        return LLMOverloaded(said, retry_after=retry_after)
    plain: dict[int, type[LLMError]] = {401: LLMUnauthorized, 402: LLMPaymentRequired}
    if status in plain:
        return plain[status](said)
    if status == 404 or 300 <= status < 400:
        return LLMNotFound(f"{said}; check KIMI_BASE_URL and KIMI_MODEL")
    return LLMBadRequest(said)


def classify_in_stream(error: Any) -> LLMError:
    """Return the error that an error object within a stream stands for."""
    body = json.dumps({"error": error}).encode()
    kind, message = _read_error(body)
    text = f"{kind} {message}".lower()
    if "overloaded" in text or "rate_limit" in text or "quota" in text or "usage limit" in text:
        return classify(429, {}, body)
    return LLMProtocolError(f"the stream ended with an error: {message or kind or 'no reason given'}")


def parse_retry_after(value: str | None) -> float | None:
    """Return the seconds that a ``Retry-After`` header asks for (RFC 9110, 10.2.3), None where it says nothing."""
    if not value:
        return None
    try:
        seconds = float(value)
    except ValueError:
        try:
            seconds = parsedate_to_datetime(value).timestamp() - time.time()
        except (ValueError, TypeError):
            return None
    return seconds if 0 <= seconds < 86_400 * 7 else None


def one_line(text: str) -> str:
    """Return a text fit for a timeline: one line, short, without anything that looks like a key."""
    return SECRET.sub("[key]", " ".join(text.replace("\x00", "").split()))[:LONGEST_MESSAGE]


def _too_many(text: str, said: str, retry_after: float | None) -> LLMError:
    if "exceeded_current_quota" in text or "usage limit" in text or "quota" in text:
        return LLMQuotaExceeded(said)
    if "overloaded" in text:
        return LLMOverloaded(said, retry_after=retry_after)
    return LLMRateLimited(said, retry_after=retry_after)


def _forbidden(text: str, said: str, retry_after: float | None) -> LLMError:
    if "access_terminated_error" in text:
        return LLMForbidden(f"{said}; {CLIENT_NOT_LISTED}")
    if "concurren" in text:
        return LLMRateLimited(said, retry_after=retry_after)
    return LLMForbidden(said)


def _read_error(body: bytes) -> tuple[str, str]:
    """Return the type and the message of an error body, whatever it is."""
    text = body.decode(errors="replace").strip()
    try:
        error = json.loads(text)["error"]
        if isinstance(error, str):
            return "", one_line(error)
        return str(error.get("type") or error.get("code") or ""), one_line(str(error.get("message") or ""))
    except (ValueError, KeyError, TypeError, AttributeError):
        pass
    if title := re.search(r"<title[^>]*>(.*?)</title>", text, re.IGNORECASE | re.DOTALL):
        return "", one_line(title.group(1))
    if text.startswith("<"):
        return "", "an HTML page"
    # A JSON body that was cut off still says what it is about.
    kind = re.search(r'"type"\s*:\s*"([^"]+)"', text)
    message = re.search(r'"message"\s*:\s*"([^"]*)', text)
    return (kind.group(1) if kind else ""), one_line(message.group(1) if message else text)
