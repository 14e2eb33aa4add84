"""The digest by which documents of JSON are stored once."""

from __future__ import annotations

import hashlib
import json
from typing import Any


def digest_of(content: Any) -> bytes:
    """Return the SHA-256 of JSON values as text with sorted keys and without spaces, 32 bytes.

    It is the same for the values that are written to a ``jsonb`` column and for those that are read from it.
    """
    return hashlib.sha256(json.dumps(content, sort_keys=True, separators=(",", ":")).encode()).digest()
