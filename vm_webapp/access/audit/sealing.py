"""Chains entries that were added without a chain, so that no change waits for another one's.

An entry's id is drawn before its transaction commits, so entries may appear behind others that are chained already.
Only those are taken whose transaction id is below that of every transaction in progress; they are chained in the order
of their ids. One that appears later with a smaller id is chained later: the position in the chain counts, not the id.

One worker at a time: the row lock on ``audit_head`` is the lease. PostgreSQL ends it with the transaction, which a
worker that dies or hangs loses within seconds, and it works through a pooler in transaction mode.
"""

from __future__ import annotations

from vm_webapp.access.audit.chain import FIELDS, next_hash
from vm_webapp.db.pool import Row, autocommit, execute, row, rows, transaction

BATCH = 500

_XMIN, _XMAX = "pg_snapshot_xmin(pg_current_snapshot())", "pg_snapshot_xmax(pg_current_snapshot())"


def _settled(xid: str) -> str:
    """Return the condition that a transaction, and every one with a smaller id, has ended."""
    # At or above xmax no transaction has ended yet: such a row was restored from the dump of another server, whose ids
    # were ahead of this one's.
    return f"({xid} < {_XMIN} OR {xid} >= {_XMAX})"


# Not NOT EXISTS: PostgreSQL would make a join of it, which may read all seals to find that nothing is new.
UNSEALED = "(SELECT s.position FROM audit_seals s WHERE s.entry_id = e.id) IS NULL"
"""The condition that an entry ``e`` is not in the chain yet."""

# Up to ``low_id`` every entry is chained, so only those above it are looked at. ``mark_id`` was the newest entry at an
# earlier look, by the transaction ``mark_xid``: whoever draws an id has a transaction id already, so all with smaller
# ids were begun before. Once all those have ended and what they left is chained, ``low_id`` moves up to the mark, and
# the next look sets another mark.
_LOOK = f"""
    SELECT (SELECT e.id FROM audit_entries e
             WHERE e.id > coalesce(low_id, 0) AND {_settled("e.xid")} AND {UNSEALED} ORDER BY e.id LIMIT 1) IS NOT NULL
           OR coalesce(CASE WHEN mark_id > low_id THEN {_settled("mark_xid")}
                            ELSE low_id < (SELECT max(id) FROM audit_entries) END, false) AS due
      FROM (VALUES (1)) now LEFT JOIN audit_head ON true
"""
_ADD_HEAD = "INSERT INTO audit_head DEFAULT VALUES ON CONFLICT DO NOTHING"
# The newest id is read by the statement whose lock gives this transaction its id: in its snapshot, and thus before.
_LOCK_HEAD = """
    SELECT *, coalesce((SELECT max(id) FROM audit_entries), 0) AS newest_id FROM audit_head FOR UPDATE SKIP LOCKED
"""
# A statement of its own after the lock: its snapshot has everything that the sealer before has committed.
_NEXT = f"""
    SELECT mark.passed, e.*
      FROM (SELECT {_settled("%(mark_xid)s::xid8")} AS passed) mark
      LEFT JOIN LATERAL (SELECT {", ".join(FIELDS)} FROM audit_entries e
                          WHERE id > %(low_id)s AND {_settled("xid")} AND {UNSEALED}
                          ORDER BY id LIMIT {BATCH}) e ON true
"""
_ADD_SEALS = """
    INSERT INTO audit_seals (position, entry_id, hash)
    SELECT * FROM unnest(%(positions)s::bigint[], %(ids)s::bigint[], %(hashes)s::bytea[])
"""
_MOVE_HEAD = """
    UPDATE audit_head
       SET position = %(position)s, hash = %(hash)s, low_id = %(low_id)s, mark_id = %(mark_id)s,
           mark_xid = CASE WHEN %(mark_id)s > mark_id THEN pg_current_xact_id() ELSE mark_xid END
"""


def is_sealing_due() -> bool:
    """Return whether ``seal_batch`` has something to do; one statement that writes nothing."""
    with autocommit():
        found = row(_LOOK)
    return found is not None and bool(found["due"])


def seal_batch() -> int:
    """Chain up to ``BATCH`` entries, in one transaction; nothing if another process does so now.

    Returns:
        How many entries were chained; ``BATCH`` when more may be left.

    Raises:
        DatabaseUnavailable: nothing was chained.
    """
    sealed = _seal_if_free()
    if sealed is None:
        # Not in the same transaction: it would have its id before its first read, and its mark must get one after it.
        with autocommit():
            execute(_ADD_HEAD)
        sealed = _seal_if_free()
    return sealed or 0


def _seal_if_free() -> int | None:
    # Durable: after a crash entries might be chained in another order, and an export has been taken elsewhere.
    with transaction():
        head = row(_LOCK_HEAD)
        return None if head is None else _seal(head)


def _seal(head: Row) -> int:
    found = rows(_NEXT, low_id=head["low_id"], mark_xid=head["mark_xid"])
    entries = [each for each in found if each["id"] is not None]
    position, hash = head["position"], bytes(head["hash"])
    hashes = []
    for entry in entries:
        hash = next_hash(hash, entry)
        hashes.append(hash)
    if entries:
        positions = list(range(position + 1, position + 1 + len(entries)))
        execute(_ADD_SEALS, positions=positions, ids=[entry["id"] for entry in entries], hashes=hashes)
    low_id, mark_id = head["low_id"], head["mark_id"]
    if found[0]["passed"] and len(entries) < BATCH:
        low_id, mark_id = mark_id, max(mark_id, head["newest_id"])
    execute(_MOVE_HEAD, position=position + len(entries), hash=hash, low_id=low_id, mark_id=mark_id)
    return len(entries)
