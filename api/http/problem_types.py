"""Every type of problem that the API responds with: what it means, and what the caller can do.

``/problems/{name}`` shows an entry of this list, and so does the OpenAPI document.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from http import HTTPStatus


@dataclass(frozen=True, slots=True)
class ProblemType:
    """A type of problem.

    Attributes:
        name: the last part of the problem's ``type``.
        status: the HTTP status of the response; None if several have it.
        meaning: what has happened.
        remedy: what the caller can do about it.
        members: members of the problem's body that only this type has, by name: JSON schemas.
        headers: response headers that come with it beside those of every response.
    """

    name: str
    status: int | None
    meaning: str
    remedy: str
    members: dict[str, dict[str, str]] = field(default_factory=dict)
    headers: tuple[str, ...] = ()

    @property
    def uri(self) -> str:
        """The problem's ``type``."""
        return f"/problems/{self.name}"

    @property
    def title(self) -> str:
        """The problem's ``title``."""
        return HTTPStatus(self.status).phrase if self.status else "HTTP error"


_LISTED = (
    ProblemType(
        "malformed_json",
        400,
        "The body is not a JSON document. Bodies are UTF-8 without a byte-order mark, follow RFC 8259 (neither NaN nor"
        " Infinity), and are nested at most 32 deep.",
        "Correct the place that the detail names, and send the request again.",
    ),
    ProblemType(
        "empty_body",
        400,
        "The operation needs a body, and this one is empty.",
        "Send a JSON object with the required fields.",
    ),
    ProblemType(
        "malformed_form",
        400,
        "The body is not a form of a page of this service, or has a field twice.",
        "Go back to the page, and submit its form. Programs use the API, whose bodies are JSON.",
    ),
    ProblemType(
        "unreadable_body",
        400,
        "The body breaks off before its end, or it is not encoded as its headers say.",
        "Send the whole body; with Content-Encoding, compress it that way, or leave the header out.",
    ),
    ProblemType(
        "malformed_request",
        400,
        "This is not a well-formed HTTP/1.1 request: its first line, a header, or the length of its body is wrong.",
        "Send it by a client library. A client that speaks TLS needs the https:// address of the proxy.",
    ),
    ProblemType(
        "unauthorized",
        401,
        "The request carries no credentials that are valid: none, a wrong token, or a key that is revoked or expired.",
        "Send Authorization: Bearer with a key. Whoever operates the service makes one with"
        " python -m vm_webapp keys create NAME.",
        headers=("WWW-Authenticate",),
    ),
    ProblemType(
        "forbidden",
        403,
        "The key is valid, but its role does not include what the operation needs. The roles are viewer, editor,"
        " operator and admin; each includes the ones before.",
        "Use a key with the role that the detail names.",
    ),
    ProblemType(
        "four_eyes",
        403,
        "The run asks for four eyes, and its creator may not decide its reviews.",
        "Let somebody else decide, with a key of their own.",
    ),
    ProblemType(
        "forbidden_host",
        403,
        "An API without credentials answers only under the names of its own machine, and the Host header has another"
        " one. It protects the machine's user from pages of other sites.",
        "Call it as localhost or 127.0.0.1, or serve it with credentials.",
    ),
    ProblemType(
        "cross_site",
        403,
        "A page of another site tried to change something: on an API without credentials, or with the cookie of this"
        " service.",
        "Call the API from a program with a key, or from a page of its own.",
    ),
    ProblemType(
        "https_required",
        403,
        "Signing in over HTTP would send the key, and then the session's cookie, in the open.",
        "Come over https://. Whoever operates the service names the address of its proxy in VM_TRUSTED_PROXIES.",
    ),
    ProblemType(
        "not_found",
        404,
        "There is nothing at this address: no such operation, or nothing with this id or name.",
        "Check the address letter by letter. Paths have no slash at their end and are case-sensitive.",
    ),
    ProblemType(
        "method_not_allowed",
        405,
        "The address exists, but not for this method.",
        "Use one of the methods that the Allow header lists.",
        headers=("Allow",),
    ),
    ProblemType(
        "body_timeout",
        408,
        "The body did not arrive in time.",
        "Send the request again; a body of at most 1 MiB should take seconds.",
    ),
    ProblemType(
        "headers_timeout",
        408,
        "The headers did not arrive in time.",
        "Send the request again, all of its headers at once.",
    ),
    ProblemType(
        "conflict",
        409,
        "The thing exists, but its present state does not allow the request: a completed run cannot be canceled, an"
        " archived brand cannot be changed.",
        "Read it again; the detail says what its state is and what that allows.",
    ),
    ProblemType(
        "draft_changed",
        409,
        "The draft has changed since it was read, so a decision about the old text would be one about a text that"
        " nobody has seen.",
        "Read the draft again, and decide with its new digest.",
        members={"current_sha256": {"type": "string", "description": "The digest of the draft as it is now."}},
    ),
    ProblemType(
        "idempotency_in_progress",
        409,
        "A request with the same Idempotency-Key is in progress.",
        "Send the same request again after Retry-After seconds: it gets the response of the first one.",
        headers=("Retry-After",),
    ),
    ProblemType(
        "changed_meanwhile",
        412,
        "What should be changed has another version than If-Match names: somebody else has changed it.",
        "Read it again, make the change to what is there now, and send it with the new ETag.",
        members={"version": {"type": "integer", "description": "The version as it is now."}},
    ),
    ProblemType(
        "body_too_large",
        413,
        "The body is over 1 MiB, as it is sent or after it is decompressed.",
        "Send less. No field takes as much as that.",
    ),
    ProblemType(
        "uri_too_long",
        414,
        "The address, with its query, is longer than 8,192 bytes.",
        "Send a shorter one; no parameter takes that much.",
    ),
    ProblemType(
        "unsupported_media_type",
        415,
        "The body is something else than JSON, does not say what it is, or is compressed in a way that is not known.",
        "Send Content-Type: application/json, and Content-Encoding: gzip or deflate if it is compressed.",
    ),
    ProblemType(
        "expectation_failed",
        417,
        "The Expect header asks for something that the server does not know.",
        "Leave it out, or send Expect: 100-continue.",
    ),
    ProblemType(
        "invalid_input",
        422,
        "The body is JSON, but some of its values are wrong. The errors list all of them, each with a JSON pointer.",
        "Correct every value that is listed. Unknown fields and fields that are given twice are errors, too.",
    ),
    ProblemType(
        "invalid_parameter",
        422,
        "A parameter of the query is unknown, repeated or wrong. The errors list all of them.",
        "Correct every parameter that is listed; a cursor is used exactly as it came.",
    ),
    ProblemType(
        "invalid_header",
        422,
        "A header of the request is not written as it has to be.",
        "Correct the header that the errors name.",
    ),
    ProblemType(
        "idempotency_key_reused",
        422,
        "The Idempotency-Key was used within the last 24 hours with a body of other bytes.",
        "To repeat the request, send the same bytes; for another request, use a new key.",
    ),
    ProblemType(
        "precondition_required",
        428,
        "A change has to say which version it was made from, so that two people do not overwrite each other.",
        "Send If-Match with the ETag of the response that was changed.",
    ),
    ProblemType(
        "rate_limited",
        429,
        "The key has sent more requests within a minute than it may, or too many keys that are not valid came from the"
        " caller's address.",
        "Wait for Retry-After seconds. RateLimit and RateLimit-Policy tell how many requests are left, and until when.",
        headers=("Retry-After",),
    ),
    ProblemType(
        "quota_exceeded",
        429,
        "The key has created as many runs as it may on a day.",
        "Wait until 0:00 UTC, or ask whoever operates the service for a higher VM_RUNS_PER_DAY.",
        headers=("Retry-After",),
    ),
    ProblemType(
        "too_many_streams",
        429,
        "The key holds as many streams and waiting requests open as it may.",
        "End some of them. One stream follows a run to its end; no run needs two.",
        headers=("Retry-After",),
    ),
    ProblemType(
        "headers_too_large",
        431,
        "A header is longer than 8,190 bytes, or the headers are too many or too large together.",
        "Send fewer and shorter headers; cookies of other services are the usual cause.",
    ),
    ProblemType(
        "internal_error",
        500,
        "Something went wrong in the service. Its log has the cause under the problem's request_id.",
        "Report the request_id to whoever operates the service. A POST may be repeated under its Idempotency-Key.",
    ),
    ProblemType(
        "unavailable",
        503,
        "Something that the service needs does not respond just now.",
        "Send the request again after Retry-After seconds.",
        headers=("Retry-After",),
    ),
    ProblemType(
        "database_unavailable",
        503,
        "The database does not respond, or a lock or a slow statement holds the request up. Nothing was changed.",
        "Send the request again after Retry-After seconds. An operator finds the cause with"
        " python -m vm_webapp doctor.",
        headers=("Retry-After",),
    ),
    ProblemType(
        "database_disk_full",
        503,
        "The database's disk is full. Nothing can be stored until an operator has freed space; reading works.",
        "Wait for the operator. Work that is queued goes on by itself afterwards.",
        headers=("Retry-After",),
    ),
    ProblemType(
        "no_answer_in_time",
        503,
        "The database took too long, and whether anything was written is unknown.",
        "Send the request again under the same Idempotency-Key: it then has one effect in all.",
        headers=("Retry-After",),
    ),
    ProblemType(
        "overloaded",
        503,
        "More requests wait than the service can serve in time.",
        "Send the request again after Retry-After seconds, and send fewer at once.",
        headers=("Retry-After",),
    ),
    ProblemType(
        "too_many_connections",
        503,
        "All connections that a process of the service may have serve requests.",
        "Send the request again after Retry-After seconds, and share connections between requests.",
        headers=("Retry-After",),
    ),
    ProblemType(
        "version_not_supported",
        505,
        "The request is of another version of HTTP than 1.0 or 1.1.",
        "Use HTTP/1.1, or a proxy that speaks it to this service.",
    ),
    ProblemType(
        "http_error",
        None,
        "The request breaks a rule of HTTP itself; the status says which.",
        "Look the status up in RFC 9110, and correct the request.",
    ),
)

PROBLEM_TYPES: dict[str, ProblemType] = {each.name: each for each in _LISTED}
