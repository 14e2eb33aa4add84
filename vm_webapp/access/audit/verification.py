"""Checks the chain: that no entry was changed, removed, put in another's place or added behind the program's back."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

from vm_webapp.access.audit.chain import FIELDS, FIRST, next_hash
from vm_webapp.access.audit.sealing import UNSEALED
from vm_webapp.db.pool import Row, autocommit, row, rows
from vm_webapp.errors import VMError

BATCH = 1000
IDS_AT_A_TIME = 20_000

_HEAD = "SELECT position, hash, low_id FROM audit_head"
_PRUNED = "SELECT position, hash FROM audit_pruned ORDER BY position DESC LIMIT 1"
_AFTER = f"""
    SELECT s.position, s.entry_id, s.hash, {", ".join(f"e.{name}" for name in FIELDS)}
      FROM audit_seals s LEFT JOIN audit_entries e ON e.id = s.entry_id
     WHERE s.position > %(after)s ORDER BY s.position LIMIT {BATCH}
"""
_UNSEALED_IDS = f"""
    SELECT e.id FROM audit_entries e WHERE e.id > %(after)s AND e.id <= %(last)s AND {UNSEALED} ORDER BY e.id LIMIT 1
"""
_FIRST_ID = "SELECT min(id) AS id FROM audit_entries"
_COUNT_UNSEALED = f"SELECT count(*) AS n FROM audit_entries e WHERE e.id > %(after)s AND {UNSEALED}"


class AuditBroken(VMError):
    """The audit trail is not as it was written; the text says where."""

    code = "audit_broken"


@dataclass(frozen=True, slots=True)
class End:
    """A place in the chain.

    Attributes:
        position: of the last entry, counted from 1; 0 where nothing is chained.
        hash: of that entry.
        entry_id: its id; None at the start of the chain or where retention has cut it.
        at: its time; None as ``entry_id``.
    """

    position: int
    hash: bytes
    entry_id: int | None = None
    at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Verified:
    """What was found to be in order.

    Attributes:
        start: where the chain starts; later than position 0 where retention has removed entries.
        end: up to where the entries are sealed.
        unsealed: how many entries are newer, and not sealed yet.
    """

    start: End
    end: End
    unsealed: int


def verify(known: tuple[int, bytes] | None = None) -> Verified:
    """Check the whole chain, in batches.

    Args:
        known: a position and the hash that it had when it was exported: a chain that was written anew from end to end
            agrees with itself, and only a copy elsewhere shows it.

    Raises:
        AuditBroken: the first place that is not as it was sealed.
        DatabaseUnavailable: it could not be checked.
    """
    head = _read(_HEAD)
    start = end = start_of_chain()
    met = known is None or known == (start.position, start.hash)
    for sealed in walk(start):
        end = End(sealed["position"], bytes(sealed["hash"]), sealed["entry_id"], sealed["at"])
        met = met or known == (end.position, end.hash)
        if known is not None and known[0] == end.position and not met:
            raise AuditBroken(f"position {end.position} has the hash {end.hash.hex()} and not the known one")
    if not met:
        assert known is not None
        raise AuditBroken(f"position {known[0]}, whose hash is known, is not in the chain: it ends at {end.position}")
    _check_end(head, end)
    low_id = head["low_id"] if head else 0
    _find_foreign(low_id)
    counted = _read(_COUNT_UNSEALED, after=low_id)
    return Verified(start_of_chain(), end, counted["n"] if counted else 0)


def walk(start: End) -> Iterator[Row]:
    """Yield each seal after ``start`` with its entry, in the order of the chain, each checked.

    Raises:
        AuditBroken: the next one is not as it was sealed.
    """
    position, hash = start.position, start.hash
    while found := _rows_after(position):
        for sealed in found:
            wrong = _fault(position, hash, sealed)
            if wrong:
                pruned = start_of_chain()
                if pruned.position <= position:
                    raise AuditBroken(wrong)
                # Retention has removed entries since the walk began: it goes on behind them.
                position, hash = pruned.position, pruned.hash
                break
            position, hash = sealed["position"], bytes(sealed["hash"])
            yield sealed


def position_before(moment: datetime) -> End:
    """Return the place after which everything in the chain was sealed at ``moment`` or later."""
    first = _read("SELECT min(position) AS position FROM audit_seals WHERE sealed_at >= %(moment)s", moment=moment)
    if first is None or first["position"] is None:
        last = _read("SELECT position, hash FROM audit_seals ORDER BY position DESC LIMIT 1")
        return End(last["position"], bytes(last["hash"])) if last else start_of_chain()
    return place_at(first["position"] - 1)


def start_of_chain() -> End:
    """Return the place before the first entry that is still there."""
    pruned = _read(_PRUNED)
    return End(pruned["position"], bytes(pruned["hash"])) if pruned else End(0, FIRST)


def place_at(position: int) -> End:
    """Return the place at a position of the chain.

    Raises:
        AuditBroken: the chain does not have it.
    """
    start = start_of_chain()
    if position == start.position:
        return start
    found = _read("SELECT hash FROM audit_seals WHERE position = %(position)s", position=position)
    if found is None:
        raise AuditBroken(f"the chain, which begins after position {start.position}, has no position {position}")
    return End(position, bytes(found["hash"]))


def _fault(position: int, hash: bytes, sealed: Row) -> str:
    if sealed["position"] != position + 1:
        missing = f"{position + 1} to {sealed['position'] - 1}" if sealed["position"] > position + 2 else position + 1
        return f"the seals of position {missing} are missing"
    where = f"entry {sealed['entry_id']} at position {sealed['position']}"
    if sealed["id"] is None:
        return f"{where} is missing"
    if next_hash(hash, sealed) != bytes(sealed["hash"]):
        what = f"{sealed['action']} by {sealed['actor']}, {sealed['at']:%Y-%m-%d %H:%M:%S} UTC"
        return f"{where} is not as it was sealed ({what}): it, or its seal, was changed or put in another's place"
    return ""


def _check_end(head: Row | None, end: End) -> None:
    """Check the chain's end against the head, as it was before the walk."""
    if head is None:
        if end.position and _read(_HEAD) is None:
            raise AuditBroken("the row of audit_head, which holds the end of the chain, is missing")
        return
    if end.position < head["position"]:
        raise AuditBroken(
            f"the seals after position {end.position} are missing: the chain went on to {head['position']}"
        )
    if end.position == head["position"] and end.hash != bytes(head["hash"]):
        raise AuditBroken(f"the chain ends at position {end.position} with another hash than audit_head holds")


def _find_foreign(low_id: int) -> None:
    """Look for an entry without a seal among ids of which every one was sealed."""
    first = _read(_FIRST_ID)
    after = (first["id"] or 0) - 1 if first else 0
    while after < low_id:
        last = min(after + IDS_AT_A_TIME, low_id)
        if found := _read(_UNSEALED_IDS, after=after, last=last):
            raise AuditBroken(f"entry {found['id']} has no seal, although all entries up to {low_id} had one")
        after = last


def _rows_after(position: int) -> list[Row]:
    # A transaction for each batch: one for all of them would be in progress for long, and hold up the sealing.
    with autocommit():
        return rows(_AFTER, after=position)


def _read(statement: str, **values: object) -> Row | None:
    with autocommit():
        return row(statement, **values)
