"""Versions as ``ETag``, ``If-Match`` and ``If-None-Match`` (RFC 9110, sections 8.8.3 and 13.1)."""

from __future__ import annotations

import re

from aiohttp import web

from api.http.problems import FieldProblem, RequestError

WRITTEN = re.compile(r'"(\d{1,9})"')


def etag(version: int) -> dict[str, str]:
    """Return the header that names a version."""
    return {"ETag": f'"{version}"'}


def is_known(request: web.Request, etag: str) -> bool:
    """Tell whether the caller has what this tag names (``If-None-Match``, section 13.1.2)."""
    given = {tag.strip().removeprefix("W/") for tag in request.headers.get("If-None-Match", "").split(",")}
    return etag in given or "*" in given


def required_version(if_match: str | None) -> int:
    """Return the version that a change was made from.

    Raises:
        RequestError: 428 where none is named, 412 where it cannot be one.
    """
    if if_match is None:
        message = "a change needs the ETag of what it was made from"
        wrong = FieldProblem(header="If-Match", message=message)
        raise RequestError(428, "precondition_required", f"If-Match: {message}", errors=[wrong])
    found = WRITTEN.fullmatch(if_match.strip())
    if found is None:
        message = "no version has this ETag; read it again and use the one that is answered"
        wrong = FieldProblem(header="If-Match", message=message)
        raise RequestError(412, "changed_meanwhile", f"If-Match: {message}", errors=[wrong])
    return int(found[1])
