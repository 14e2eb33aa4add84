"""Parses forms of the type ``multipart/form-data`` (RFC 7578), as browsers send those without files."""

from __future__ import annotations

import re

MULTIPART = "multipart/form-data"
# Browsers write a name in quotes, with ``%22`` for a quote within it. A part that is a file has a second name.
_FIELD = re.compile(rb'(?i)content-disposition: *form-data; *name="([^"\r\n]*)"')
_ENCODED = re.compile(rb"(?i)content-transfer-encoding:")
_BOUNDARY = re.compile(r'(?i); *boundary=("?)([\w\'()+,./:=?-]{1,70})\1 *(?:;|$)', re.ASCII)


def parse_multipart(raw: bytes, content_type: str, *, most: int) -> list[tuple[str, str]]:
    """Return the names and values of a form's fields, in their order.

    Args:
        raw: the body.
        content_type: the body's type, with the boundary that separates the fields.
        most: how many fields there may be.

    Raises:
        ValueError: it is no such form, holds a file, is not UTF-8, or has more fields.
    """
    boundary = _BOUNDARY.search(content_type)
    if boundary is None:
        raise ValueError("its type names no boundary")
    begin, *parts = (b"\r\n" + raw).split(b"\r\n--" + boundary[2].encode(), most + 1)
    if begin or not parts or parts.pop() not in (b"--", b"--\r\n"):
        raise ValueError("it does not begin and end with its boundary, or has more fields")
    return [_field(part) for part in parts]


def _field(part: bytes) -> tuple[str, str]:
    head, end, value = part.partition(b"\r\n\r\n")
    before, *lines = head.split(b"\r\n")
    names = [found[1] for line in lines if (found := _FIELD.fullmatch(line))]
    if before or not end or len(names) != 1 or any(map(_ENCODED.match, lines)):
        raise ValueError("a part of it is no field")
    return names[0].decode(), value.decode()
