"""Entity tags: ``ETag``, ``If-Match`` and ``If-None-Match`` (RFC 9110, sections 8.8.3 and 13.1)."""

from __future__ import annotations

import re

from aiohttp import web

from api.http.problems import FieldProblem, RequestError

VERSION_TAG = re.compile(r'"(\d{1,9})"')  # nine digits always fit PostgreSQL's integer


def etag(version: int) -> dict[str, str]:
    """Return the ``ETag`` header of a version."""
    return {"ETag": f'"{version}"'}


def is_known(request: web.Request, etag: str) -> bool:
    """Return whether the caller already has the representation with this tag (``If-None-Match``, section 13.1.2)."""
    # A weak comparison, as the RFC demands: a proxy that compresses a response makes its tag weak.
    given = {tag.strip().removeprefix("W/") for tag in request.headers.get("If-None-Match", "").split(",")}
    return etag in given or "*" in given


def required_version(if_match: str | None) -> int:
    """Return the version that a change is based on.

    Raises:
        RequestError: 428 if the header is missing, 412 if no version can have this tag.
    """
    if if_match is None:
        message = "a change needs the ETag of what it was made from"
        wrong = FieldProblem(header="If-Match", message=message)
        raise RequestError(428, "precondition_required", f"If-Match: {message}", errors=[wrong])
    # A weak tag does not match: If-Match compares strongly (section 13.1.1).
    found = VERSION_TAG.fullmatch(if_match.strip())
    if found is None:
        message = "no version has this ETag; read it again and use the ETag of the response"
        wrong = FieldProblem(header="If-Match", message=message)
        raise RequestError(412, "changed_meanwhile", f"If-Match: {message}", errors=[wrong])
    return int(found[1])
