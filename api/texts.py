"""Which text PostgreSQL can store."""

from __future__ import annotations

import re

UNSTORABLE = "holds a character that cannot be stored: NUL or half a surrogate pair"
_REFUSED = re.compile("[\x00\ud800-\udfff]")


def is_storable(text: str) -> bool:
    """Tell whether PostgreSQL takes a text: it has no NUL and no half of a surrogate pair."""
    return _REFUSED.search(text) is None
