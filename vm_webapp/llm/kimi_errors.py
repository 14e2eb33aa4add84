"""Classifies the error responses of an OpenAI-compatible server: pure functions of status, headers, body and time."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Set
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Any

from vm_webapp.llm import error_words as words
from vm_webapp.llm.errors import (
    LLMBadRequest,
    LLMContentFiltered,
    LLMContextExceeded,
    LLMEmptyCompletion,
    LLMError,
    LLMForbidden,
    LLMModelNotFound,
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
CHECK_ACCOUNT = "check the account of KIMI_API_KEY"
CLIENT_NOT_LISTED = (
    "the server of KIMI_BASE_URL admits only listed clients, and this is not one of them:"
    " use a key of the open platform with KIMI_BASE_URL=https://api.moonshot.ai/v1"
)


@dataclass(frozen=True, slots=True)
class ErrorFacts:
    """What an error body says of itself; each part may be empty."""

    kind: str = ""
    code: str = ""
    message: str = ""

    @property
    def text(self) -> str:
        """All of it in lower case."""
        return f"{self.kind} {self.code} {self.message}".lower()

    @property
    def status(self) -> int | None:
        """The HTTP status that the error stands for, where it says one."""
        if self.code.isdigit() and 400 <= int(self.code) < 600:
            return int(self.code)
        return words.STATUS_OF_KIND.get(self.kind.lower()) or words.STATUS_OF_KIND.get(self.code.lower())

    def says(self, pattern: re.Pattern[str], codes: Set[str] = frozenset()) -> bool:
        """Whether the code is one of these, or the text matches the pattern."""
        return self.code.lower() in codes or pattern.search(self.text) is not None


def classify(status: int, headers: Mapping[str, str], body: bytes, *, now: float) -> LLMError:
    """Return the error for a response with a status other than 200.

    Args:
        status: the HTTP status.
        headers: the response's headers, looked up by lower-case names.
        body: as much of the body as was read: JSON, HTML, empty, or cut off.
        now: the time, in seconds since 1970.
    """
    facts = _read_error(body)
    shown = facts.message or facts.kind or facts.code
    said = f"HTTP {status}: {shown}" if shown else f"HTTP {status}"
    return _judge(status, facts, said, parse_retry_after(headers.get("retry-after"), now=now))


def classify_object(error: object) -> LLMError:
    """Return the error for an error object in a response with status 200, in a stream or as its whole body.

    A code that is an HTTP status means what that status means; other codes are judged by type and words.
    """
    facts = _facts_of(error)
    said = f"the stream ended with an error: {facts.message or facts.kind or facts.code or 'no reason given'}"
    status = facts.status
    if status is None:
        status = 500 if facts.says(words.OVERLOADED) else 429 if facts.says(words.TOO_FAST) else None
    if status is not None:
        return _judge(status, facts, said, None)
    return _judged_by_words(facts, said) or LLMProtocolError(said)


def _judge(status: int, facts: ErrorFacts, said: str, retry_after: float | None) -> LLMError:
    if status == 500 and facts.says(words.TOO_LONG, words.TOO_LONG_CODES):
        return _too_long(said)  # no repetition makes a prompt shorter
    if status in (408, 409, 424, 425, 499) or (status >= 500 and status != 501):
        return LLMOverloaded(said, retry_after=retry_after)
    if status == 401:
        return _unauthorized(said)
    if status == 402:
        return LLMPaymentRequired(f"{said}; {CHECK_ACCOUNT}")
    if status == 429:
        return _too_many(facts, said, retry_after)
    if status == 403:
        return _forbidden(facts, said, retry_after)
    if by_words := _judged_by_words(facts, said):
        return by_words
    # The client follows no redirect: the key must not go to another server. 405 and 501 are what a web server says to
    # a POST on a page.
    if status in (404, 405, 410, 501) or 300 <= status < 400:
        return LLMNotFound(f"{said}; check KIMI_BASE_URL and KIMI_MODEL")
    return LLMBadRequest(said)


def _judged_by_words(facts: ErrorFacts, said: str) -> LLMError | None:
    """Return the error that only the words of a refusal reveal, whatever its status."""
    if words.NO_ROOM_FOR_TEXT in facts.text:
        return LLMEmptyCompletion(f"{said}; the model's reasoning used up the budget: ask for less, or another model")
    if facts.says(words.TOO_LONG, words.TOO_LONG_CODES):
        return _too_long(said)
    if facts.says(words.NO_MONEY, words.NO_MONEY_CODES):
        return LLMQuotaExceeded(f"{said}; {CHECK_ACCOUNT}")
    if facts.says(words.NO_MODEL, words.NO_MODEL_CODES):
        return LLMModelNotFound(f"{said}; check KIMI_MODEL")
    if facts.says(words.FILTERED, words.FILTERED_CODES):
        return LLMContentFiltered(f"{said}; change the request and try again")
    if facts.says(words.WRONG_URL):
        return LLMNotFound(f"{said}; check KIMI_BASE_URL")
    if facts.says(words.BAD_KEY):
        return _unauthorized(said)
    return None


def _unauthorized(said: str) -> LLMError:
    return LLMUnauthorized(f"{said}; check KIMI_API_KEY")


def _too_long(said: str) -> LLMError:
    return LLMContextExceeded(
        f"{said}; shorten the request, or set KIMI_MAX_TOKENS lower, or KIMI_MODEL to one with a longer context"
    )


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


def _too_many(facts: ErrorFacts, said: str, retry_after: float | None) -> LLMError:
    text = facts.text
    # Gemini's free tier words a limit per minute like an empty account, and says when to come back.
    if facts.code.lower() not in words.NO_MONEY_CODES and (soon := words.RETRY_IN.search(text)):
        return LLMRateLimited(said, retry_after=retry_after or float(soon.group(1)))
    # The word "quota" alone proves nothing: a rate limit may be worded as "quota of 20 requests a minute".
    if facts.says(words.NO_MONEY, words.NO_MONEY_CODES) or ("quota" in text and "rate_limit" not in text):
        return LLMQuotaExceeded(f"{said}; {CHECK_ACCOUNT}")
    if "overloaded" in text:
        return LLMOverloaded(said, retry_after=retry_after)
    return LLMRateLimited(said, retry_after=retry_after)


def _forbidden(facts: ErrorFacts, said: str, retry_after: float | None) -> LLMError:
    text = facts.text
    # Kimi's type ``access_terminated_error`` stands for a client that is not listed, for a subscription that is used
    # up, and for too many calls at once; only the message distinguishes them.
    if facts.says(words.NO_MONEY) or "quota" in text:
        return LLMQuotaExceeded(f"{said}; {CHECK_ACCOUNT}")
    if "concurren" in text:
        return LLMRateLimited(said, retry_after=retry_after)
    if facts.kind == "access_terminated_error":
        return LLMForbidden(f"{said}; {CLIENT_NOT_LISTED}")
    return LLMForbidden(f"{said}; check what KIMI_API_KEY may use")


def _facts_of(error: object) -> ErrorFacts:
    """Return what an error object says; servers name its parts differently, and nest them."""
    if isinstance(error, str):
        return ErrorFacts(message=one_line(error))
    if isinstance(error, list) and error:  # FastAPI's and pydantic's ``detail``
        return _facts_of(error[0])
    if not isinstance(error, dict):
        return ErrorFacts()
    for name in ("error", "detail", "errors", "message"):
        if isinstance(error.get(name), dict | list) and error[name]:
            return _facts_of(error[name])
    where = ".".join(str(part) for part in error.get("loc") or ()) if isinstance(error.get("loc"), list) else ""
    message = _first(error, "message", "msg", "error_msg", "detail", "error", "error_message")
    # OpenRouter's own message is only "Provider returned error"; the upstream's is in ``raw``.
    metadata = error.get("metadata")
    if isinstance(metadata, dict) and isinstance(metadata.get("raw"), str) and metadata["raw"]:
        message = f"{message}: {metadata['raw']}"
    return ErrorFacts(
        kind=one_line(_first(error, "type", "error_type", "status_text")),
        code=one_line(_first(error, "code", "status", "status_code", "error_code")),
        message=one_line(f"{where}: {message}" if where and message else message),
    )


def _first(error: dict[str, Any], *names: str) -> str:
    for name in names:
        value = error.get(name)
        if isinstance(value, str | int | float) and not isinstance(value, bool) and value != "":
            return str(int(value) if isinstance(value, float) and value.is_integer() else value)
    return ""


def _read_error(body: bytes) -> ErrorFacts:
    """Return what an error body of any kind says."""
    text = body.decode(errors="replace").strip()
    try:
        parsed = json.loads(text)
    except (ValueError, RecursionError):
        parsed = None
    if isinstance(parsed, dict | list) and (facts := _facts_of(parsed)) != ErrorFacts():
        return facts
    if title := re.search(r"<title[^>]*>(.*?)</title>", text, re.IGNORECASE | re.DOTALL):
        return ErrorFacts(message=one_line(title.group(1)))
    if text.startswith("<"):
        return ErrorFacts(message="an HTML page")
    # A JSON body that was cut off still has a type or the start of a message; the last, incomplete word is dropped.
    kind = re.search(r'"type"\s*:\s*"([^"]+)"', text)
    message = re.search(r'"message"\s*:\s*"([^"]*)(?=["\s])', text)
    if text.startswith("{") and not text.endswith("}"):
        text = LAST_WORD.sub("", text)
    return ErrorFacts(
        kind=one_line(kind.group(1)) if kind else "", message=one_line(message.group(1) if message else text)
    )
