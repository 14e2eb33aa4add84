"""Ids of a platform's services."""

from __future__ import annotations

import re

_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,99}")


def parse_service_id(text: str) -> str:
    """Return the id of a platform's service.

    Raises:
        ValueError: it is none; it would become a part of a URL.
    """
    if not _ID.fullmatch(text):
        raise ValueError("must be the id of a service, such as srv-abc123")
    return text
