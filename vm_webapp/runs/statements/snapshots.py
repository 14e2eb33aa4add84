"""Stores snapshots, each once."""

from __future__ import annotations

FIND_SNAPSHOTS = """
    SELECT digest FROM snapshots WHERE digest = ANY(%(digests)s::bytea[]) FOR KEY SHARE
"""
"""The snapshots with these ``digests``, locked: no purge deletes them before the transaction ends."""

STORE_FURTHER_SNAPSHOTS = """
    INSERT INTO snapshots (digest, content)
    SELECT digest, document::jsonb FROM unnest(%(sent)s::bytea[], %(documents)s::text[]) AS sent(digest, document)
     WHERE digest NOT IN (SELECT digest FROM found)
    ON CONFLICT (digest) DO UPDATE SET content = snapshots.content
    RETURNING digest
"""
"""Store the ``documents`` (JSON) whose digests are ``sent``, in the same order and each once, except for the ``found``.

The update locks a row that another transaction has just stored. With DO NOTHING, a purge could delete it before this
transaction ends. An update of the digest, which is the key, would wait for all who are creating runs with this row, and
they may wait for another one of ours.
"""

STORE_SNAPSHOTS = f"WITH found AS MATERIALIZED ({FIND_SNAPSHOTS}) {STORE_FURTHER_SNAPSHOTS}"
"""Store snapshots and lock them. Parameters: those of both."""
