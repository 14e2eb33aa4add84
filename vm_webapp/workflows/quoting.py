"""Keeps what people wrote from passing for the structure of a prompt."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

# The tags of the context block. A tag counts however it is spelled: models read past case, spaces and attributes, and
# characters that are drawn like a bracket or a slash read like one.
TAGS = ("request", "brand", "project", "document", "draft", "feedback", "remarks")
_BRACKETS = "<\uff1c\u2039\u3008\u276e\ufe64"
_SLASHES = "/\u2215\u2044\uff0f"
_INVISIBLE = r"[\s\u00ad\u200b-\u200f\u2060\ufeff]*"
_TAG = re.compile(
    rf"[{_BRACKETS}](?={_INVISIBLE}[{_SLASHES}\\]?{_INVISIBLE}(?:{'|'.join(_INVISIBLE.join(tag) for tag in TAGS)})\b)",
    re.IGNORECASE,
)


def without_tags(value: Any) -> Any:
    """Return a value in which no text opens or closes a tag of the context block: the bracket becomes ``&lt;``.

    Args:
        value: text, or mappings and lists that hold texts; anything else is returned as it is.
    """
    if isinstance(value, str):
        return _TAG.sub("&lt;", value)
    if isinstance(value, Mapping):
        return {key: without_tags(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(without_tags(item) for item in value)
    return value
