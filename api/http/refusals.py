"""Why a request is refused before it reaches a route: what is logged, and the problem that its sender gets.

Neither says what was sent: a malformed header may be a token, and aiohttp's errors quote it.
"""

from __future__ import annotations

from dataclasses import dataclass

from aiohttp.http_exceptions import (
    BadHttpMethod,
    BadStatusLine,
    ContentLengthError,
    HttpProcessingError,
    InvalidHeader,
    InvalidURLError,
    LineTooLong,
    TransferEncodingError,
)

# aiohttp's error for a line that is too long has the limit and not which line it is, so the limits differ.
LINE_BYTES = 8192
FIELD_BYTES = 8190
HEADERS = 128
HEADERS_BYTES = 32 * 1024
HEADER_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a request is refused.

    Attributes:
        kind: what the log says.
        status: the HTTP status.
        code: the last part of the problem's type.
        detail: what is wrong and what would be right.
        retry_after: after how many seconds a repetition may succeed, None if it will not.
    """

    kind: str
    status: int
    code: str
    detail: str
    retry_after: int | None = None


class Refused(Exception):
    """Carries a refusal through aiohttp."""

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(refusal.kind)
        self.refusal = refusal


def _malformed(kind: str, detail: str) -> Refusal:
    return Refusal(kind, 400, "malformed_request", detail)


MALFORMED = _malformed("malformed", "this is not a well-formed HTTP/1.1 request")
METHOD = _malformed("method", "the method is not one of HTTP, or this is not HTTP at all")
TLS = _malformed(
    "tls", "this port speaks HTTP without TLS: use http://, or the https:// address of the proxy before it"
)
REQUEST_LINE = _malformed("request_line", "the first line is not method, address and HTTP/1.1")
TARGET = _malformed("target", "the address in the first line is none; percent-encode what is not ASCII")
HEADER = _malformed(
    "header",
    "a header is malformed: each stands on one line, as a name, a colon and a value without control characters",
)
HOST = _malformed("host", "a request has one Host header")
LENGTH = _malformed("length", "a body has either one Content-Length, a number, or Transfer-Encoding: chunked")
ENCODING = Refusal(
    "encoding", 415, "unsupported_media_type", "the body may be compressed by gzip or deflate: Content-Encoding: gzip"
)
LONG_LINE = Refusal("long_line", 414, "uri_too_long", f"the address may have {LINE_BYTES} bytes")
LARGE_HEADERS = Refusal(
    "large_headers",
    431,
    "headers_too_large",
    f"a header may have {FIELD_BYTES} bytes, and all {HEADERS} of them together {HEADERS_BYTES}",
)
VERSION = Refusal("version", 505, "version_not_supported", "only HTTP/1.1 and HTTP/1.0 are spoken here")
SLOW_HEADERS = Refusal("slow_headers", 408, "headers_timeout", f"the headers did not come within {HEADER_SECONDS:g} s")
TOO_MANY_CONNECTIONS = Refusal(
    "too_many_connections", 503, "too_many_connections", "too many connections are open; try again in a moment", 1
)

# How the messages of aiohttp's parser begin; what follows may quote the request.
_BY_BEGINNING: tuple[tuple[str, Refusal], ...] = (
    ("Too many headers", LARGE_HEADERS),
    ("Pause on PRI", VERSION),  # HTTP/2 without an upgrade
    ("Received HTTPS", TLS),
    ("Bad status line:\n  Invalid HTTP version", VERSION),
    ("Missing 'Host'", HOST),
    ("Duplicate 'Host'", HOST),
    ("Invalid character in Content-Length", LENGTH),
    ("Duplicate Content-Length", LENGTH),
    ("Duplicate 'Content-Length'", LENGTH),
    ("Content-Length ", LENGTH),
    ("Transfer-Encoding ", LENGTH),
    ("Request has invalid `Transfer-Encoding`", LENGTH),
    ("Invalid `Transfer-Encoding`", LENGTH),
    ("Duplicate '", HEADER),
    ("Can not decode content-encoding: brotli", ENCODING),
    ("Can not decode content-encoding: zstandard", ENCODING),
    ("Invalid header", HEADER),
    ("Missing expected", HEADER),
    ("Unexpected whitespace", HEADER),
)
_BY_CLASS: tuple[tuple[type[HttpProcessingError], Refusal], ...] = (
    (BadHttpMethod, METHOD),
    (BadStatusLine, REQUEST_LINE),
    (InvalidURLError, TARGET),
    (InvalidHeader, HEADER),
    (ContentLengthError, LENGTH),
    (TransferEncodingError, LENGTH),
)


def refusal_of(error: BaseException | None) -> Refusal:
    """Return the refusal for an error of aiohttp's parser, or for one that carries its own."""
    if isinstance(error, Refused):
        return error.refusal
    if isinstance(error, LineTooLong):
        return LONG_LINE if error.args[1] == LINE_BYTES else LARGE_HEADERS
    if isinstance(error, HttpProcessingError):
        by_beginning = (refusal for begin, refusal in _BY_BEGINNING if error.message.startswith(begin))
        by_class = (refusal for kind, refusal in _BY_CLASS if isinstance(error, kind))
        return next(by_beginning, None) or next(by_class, MALFORMED)
    return MALFORMED
