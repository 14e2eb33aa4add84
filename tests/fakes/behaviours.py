"""How the fake model server responds to one call: well, slowly, with a broken stream, or with an error."""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

HTML_ERROR = b"<!doctype html><html><head><title>502 Bad Gateway</title></head><body>nginx</body></html>"


@dataclass(frozen=True, slots=True, kw_only=True)
class Behaviour:
    """How the server responds to one request.

    Attributes:
        text: the completion; None generates one about the prompt.
        reasoning: the ``reasoning_content`` before the completion.
        finish_reason: the last chunk's; None leaves it out.
        model: the model name in the response; None repeats the requested one.
        usage_in_choice: token counts in ``choices[0].usage`` instead of a chunk of their own.
        delay: seconds before the first byte.
        held_until: nothing is sent before this is set.
        silent: nothing is sent, not even the status line, until the client disconnects.
        hangs_up: closes (``politely``) or resets (``abruptly``) the connection in place of a response.
        stall_after: chunks of text after which nothing is sent until the client disconnects.
        stall_with: raw bytes that are sent ten times a second while the response stalls.
        pause: seconds before each chunk of text.
        usage: the token counts; None counts four characters as a token.
        drop_after: chunks of text after which the connection is reset.
        stop_after: chunks of text after which the body ends early but cleanly, without ``[DONE]``.
        insert: raw bytes to insert into the stream before the first chunk of text.
        streamed: False responds with one JSON object.
        status: the HTTP status of a response with ``body``.
        body: sent as it is, instead of a completion.
        headers: additional response headers.
    """

    text: str | None = None
    reasoning: str = "The reader wants a plan. Let me think."
    finish_reason: str | None = "stop"
    model: str | None = None
    usage_in_choice: bool = False
    delay: float = 0.0
    held_until: threading.Event | None = None
    silent: bool = False
    hangs_up: Literal["politely", "abruptly"] | None = None
    stall_after: int | None = None
    stall_with: bytes = b""
    pause: float = 0.0
    usage: Mapping[str, int] | None = None
    drop_after: int | None = None
    stop_after: int | None = None
    insert: bytes = b""
    streamed: bool = True
    status: int = 200
    body: bytes | None = None
    headers: Mapping[str, str] = field(default_factory=dict)


GOOD = Behaviour()


def completion(text: str) -> Behaviour:
    """Respond with this text."""
    return Behaviour(text=text)


def delayed(seconds: float) -> Behaviour:
    """Respond well, but only after this delay."""
    return Behaviour(delay=seconds)


def held(until: threading.Event) -> Behaviour:
    """Respond well, but only once this is set."""
    return Behaviour(held_until=until)


def stalled(after: int = 1) -> Behaviour:
    """Stop sending in the middle of the completion, until the client disconnects."""
    return Behaviour(stall_after=after)


def dropped(after: int = 1) -> Behaviour:
    """Reset the connection in the middle of the completion."""
    return Behaviour(drop_after=after)


def truncated(text: str = "# Half a doc") -> Behaviour:
    """End the text where the token budget ends (``finish_reason`` is ``length``)."""
    return Behaviour(text=text, finish_reason="length")


def only_reasoning() -> Behaviour:
    """Spend the whole token budget on reasoning, so that the text is empty."""
    return Behaviour(text="", finish_reason="length")


def filtered(text: str = "") -> Behaviour:
    """End the text as a content filter does."""
    return Behaviour(text=text, finish_reason="content_filter")


def refusal(status: int, kind: str, message: str, *, headers: Mapping[str, str] | None = None) -> Behaviour:
    """Refuse with an error object, as Kimi does."""
    return Behaviour(status=status, body=error_body(kind, message), headers=headers or {})


def plain(status: int, body: bytes, content_type: str, *, headers: Mapping[str, str] | None = None) -> Behaviour:
    """Respond with these bytes."""
    return Behaviour(status=status, body=body, headers={"Content-Type": content_type, **(headers or {})})


def error_in_stream(kind: str, message: str) -> Behaviour:
    """Start a stream and end it with an error object."""
    return Behaviour(insert=b"data: " + error_body(kind, message) + b"\n\n")


def chunk(**choice: object) -> bytes:
    """Return a stream chunk with one choice, to be used as ``insert``."""
    return b"data: " + json.dumps({"choices": [{"index": 0, **choice}]}).encode() + b"\n\n"


def redirect(location: str) -> Behaviour:
    """Redirect the client."""
    return Behaviour(status=307, body=b"", headers={"Location": location})


def error_body(kind: str, message: str) -> bytes:
    """Return an error body as Kimi writes it."""
    return json.dumps({"error": {"message": message, "type": kind}}).encode()


# Errors that Kimi's servers really send. The same status, even the same type, can mean different things.
REFUSALS: Mapping[str, Behaviour] = {
    "unauthorized": refusal(
        401, "invalid_authentication_error", "The API Key appears to be invalid or may have expired."
    ),
    "payment_required": refusal(402, "payment_required_error", "Your membership has expired."),
    "client_not_listed": refusal(
        403,
        "access_terminated_error",
        "Kimi For Coding is currently only available for Coding Agents such as Kimi CLI, Claude Code, Roo Code.",
    ),
    "concurrency": refusal(
        403,
        "access_terminated_error",
        "You've reached your concurrent request limit. Please wait for your ongoing requests to finish and try again.",
    ),
    "subscription_used_up": refusal(
        403,
        "access_terminated_error",
        "You've reached your usage limit for this billing cycle. Your quota will be refreshed in the next cycle.",
    ),
    "not_found": refusal(404, "resource_not_found_error", "Not found the model kimi-k9 or Permission denied"),
    "bad_request": refusal(400, "invalid_request_error", "invalid temperature: only 1 is allowed for this model"),
    "overloaded": refusal(429, "engine_overloaded_error", "The engine is currently overloaded, please try again later"),
    "rate_limited": refusal(
        429, "rate_limit_reached_error", "request reached organization max RPM: 20, please try again after 1 seconds"
    ),
    "period_used_up": refusal(
        429, "rate_limit_reached_error", "You've reached your usage limit for this period. It will be refreshed later."
    ),
    "balance_used_up": refusal(
        429, "exceeded_current_quota_error", "Your account is suspended, please check your plan and billing details"
    ),
    "server_error": refusal(500, "server_error", "Internal server error"),
    "bad_gateway": plain(502, HTML_ERROR, "text/html"),
    "unavailable": plain(503, b"", "text/plain"),
    "cut_off": plain(500, b'{"error":{"type":"server_error","message":"Internal ser', "application/json"),
}
