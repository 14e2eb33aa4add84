"""Reads forms as browsers send them."""

from __future__ import annotations

from collections.abc import Set
from urllib.parse import parse_qsl

from aiohttp import web

from api.http.problems import RequestError
from api.operations.inputs import read_bytes
from api.ui.multipart import MULTIPART, parse_multipart

FORM_TYPE = "application/x-www-form-urlencoded"
TAKEN_OUT = "It had characters that cannot be stored, such as NUL. They are taken out: look it over and send it again."
MOST_FIELDS = 20


async def read_form(request: web.Request) -> dict[str, str]:
    """Return the fields of a form.

    Forms for long text are ``multipart/form-data``, which carries text as it is. The other type triples whatever is not
    ASCII, so that the limit of a body would refuse text that the API takes.

    Raises:
        RequestError: 400 for a body that is no form or has a field twice, 408 for one that does not arrive, 415 for
            another content type.
    """
    if request.content_type not in (FORM_TYPE, MULTIPART):
        raise RequestError(415, "unsupported_media_type", f"the body must be a form: Content-Type: {FORM_TYPE}")
    raw = await read_bytes(request)
    try:
        pairs = _pairs(request, raw)
    except ValueError:  # not UTF-8, or too many fields
        raise RequestError(400, "malformed_form", "the body is not a form of this site") from None
    fields = dict(pairs)
    if len(fields) < len(pairs):
        raise RequestError(400, "malformed_form", "the body has a field twice")
    return fields


def _pairs(request: web.Request, raw: bytes) -> list[tuple[str, str]]:
    if request.content_type == FORM_TYPE:
        return parse_qsl(raw.decode(), keep_blank_values=True, errors="strict", max_num_fields=MOST_FIELDS)
    return parse_multipart(raw, request.headers["Content-Type"], most=MOST_FIELDS)


async def read_known_fields(request: web.Request, known: Set[str]) -> dict[str, str]:
    """Return the fields of a form that has these at most, with the line ends that this program uses.

    Raises:
        RequestError: what ``read_form`` raises, and 400 for a field that the form does not have.
    """
    fields = await read_form(request)
    if unknown := fields.keys() - known:
        raise RequestError(400, "malformed_form", f"the form has no field {', '.join(sorted(unknown))}")
    # Browsers send every line end as CR LF.
    return {name: value.replace("\r\n", "\n") for name, value in fields.items()}
