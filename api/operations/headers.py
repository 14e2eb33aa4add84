"""The headers that operations read and send, as the OpenAPI document describes them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Header:
    """A header of requests or of responses.

    Attributes:
        name: its name.
        description: what it is for.
        required: whether a request must have it, or every such response has it.
        schema: the JSON schema of its value.
    """

    name: str
    description: str
    required: bool = False
    schema: dict[str, Any] = field(default_factory=lambda: {"type": "string"})


IF_MATCH = Header(
    "If-Match",
    "The `ETag` of the response that the change was made from. Without it the response is 428, with an older one 412.",
    required=True,
    schema={"type": "string", "pattern": '^"[0-9]{1,9}"$', "examples": ['"1"']},
)
IF_NONE_MATCH = Header(
    "If-None-Match", "An `ETag` that the caller has: if it is still the one, the response is 304, without a body."
)
# No pattern: the header has no effect, and is not checked, where the response is not a stream.
LAST_EVENT_ID = Header(
    "Last-Event-ID",
    "For a stream: the `id` of the last event that the caller has, up to 18 digits. The stream goes on after it, and"
    " begins with the first event if the run has no such event. It takes precedence over `after`.",
)
IDEMPOTENCY_KEY = Header(
    "Idempotency-Key",
    "Any text that the caller makes up for one request. For 24 hours, a repetition of the same bytes under the same key"
    " has no further effect and gets the first response again.",
    schema={"type": "string", "pattern": "^[!-~]([ -~]{0,253}[!-~])?$", "examples": ["order-4711"]},
)
REQUEST_ID_SENT = Header(
    "X-Request-ID",
    "The caller's own id of the request, which the response, the log and the timeline then have. One that is not made"
    " of 1 to 128 letters, digits, dots, hyphens and underscores is replaced.",
)

LOCATION = Header(
    "Location",
    "The path of what was created, or of where to go on.",
    required=True,
    schema={"type": "string", "format": "uri-reference"},
)
ETAG = Header("ETag", "The version of what the response shows, for `If-Match` or `If-None-Match`.", required=True)
CACHE_CONTROL = Header("Cache-Control", "How caches may keep the response.", required=True)
ARTIFACT_VERSION = Header(
    "X-Artifact-Version", "The number of the version.", required=True, schema={"type": "integer", "minimum": 1}
)
CONTENT_DISPOSITION = Header("Content-Disposition", "The name for a file of the response.", required=True)
REPLAYED = Header(
    "Idempotency-Replayed",
    "`true` if this is the response of an earlier request with the same `Idempotency-Key`.",
    schema={"type": "string", "const": "true"},
)
VARY = Header("Vary", "The header of the request that decides what comes.", required=True)
REQUEST_ID = Header("X-Request-ID", "The request's id, under which the log has it.", required=True)
RETRY_AFTER = Header(
    "Retry-After", "After how many seconds a repetition makes sense.", schema={"type": "integer", "minimum": 1}
)
WWW_AUTHENTICATE = Header("WWW-Authenticate", "The kind of credentials that is asked for: `Bearer`.")
ALLOW = Header("Allow", "The methods that are possible at this address.")


def _protects(name: str, description: str) -> Header:
    return Header(name, description, required=True)


# Every response has these.
EVERYWHERE = (
    REQUEST_ID,
    CACHE_CONTROL,
    _protects("Content-Security-Policy", "What a page may load and run."),
    _protects("X-Content-Type-Options", "Keeps browsers from guessing the media type."),
    _protects("Referrer-Policy", "Keeps browsers from telling other sites where a link was followed."),
    _protects("Cross-Origin-Opener-Policy", "Keeps other sites from a window of this one."),
    _protects("Cross-Origin-Resource-Policy", "Keeps other sites from embedding the response."),
    _protects("Server", "The name of the service, without its version."),
    Header("Strict-Transport-Security", "Keeps browsers on HTTPS, where the request came by it."),
    Header(
        "RateLimit-Policy",
        "What the caller may do: `q` requests in `w` seconds, for callers who have a limit.",
        schema={"type": "string", "examples": ['"requests";q=6000;w=60']},
    ),
    Header(
        "RateLimit",
        "What is left of it: `r` requests, for `t` seconds.",
        schema={"type": "string", "examples": ['"requests";r=5999;t=42']},
    ),
)
OF_PROBLEMS = {each.name: each for each in (RETRY_AFTER, WWW_AUTHENTICATE, ALLOW)}
