"""The chain of hashes: each covers one entry and the hash before it.

    hash = SHA-256(hash before, 32 bytes ‖ entry)

The first entry follows 32 zero bytes. An entry is encoded as the JSON object of ``fields_of`` in the canonical form of
RFC 8785: UTF-8, names sorted, no spaces. Its values are texts, whole numbers, booleans, null, and in ``data`` lists of
those, so any JSON library writes the same bytes.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from datetime import UTC
from typing import Any

FIRST = bytes(32)
"""What stands before the first entry."""

FIELDS = ("id", "at", "actor", "actor_id", "role", "address", "request_id", "action", "target", "result", "data")


def fields_of(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of an entry that its hash covers, from its row: all but the transaction's id."""
    fields = {name: row[name] for name in FIELDS}
    fields["at"] = f"{row['at'].astimezone(UTC):%Y-%m-%dT%H:%M:%S.%f}Z"
    return fields


def canonical(fields: Mapping[str, Any]) -> bytes:
    """Return the canonical JSON of an entry's fields."""
    return json.dumps(fields, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def next_hash(before: bytes, row: Mapping[str, Any]) -> bytes:
    """Return the hash of an entry's row that follows the hash ``before``."""
    return hashlib.sha256(before + canonical(fields_of(row))).digest()
