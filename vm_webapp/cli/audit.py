"""``audit``: check the audit trail, or write it out for a store that this database's users cannot change."""

from __future__ import annotations

from datetime import datetime

from vm_webapp.access.audit.export import lines_after
from vm_webapp.access.audit.verification import End, Verified, place_at, position_before, start_of_chain, verify
from vm_webapp.cli.database import open_database
from vm_webapp.settings import Settings


def run_verify(settings: Settings, known: tuple[int, bytes] | None) -> int:
    """Check the chain and print up to where it is sealed."""
    with open_database(settings):
        found = verify(known)
    print(_described(found))
    return 0


def run_export(settings: Settings, *, since: datetime | None, after: int | None) -> int:
    """Print a line of JSON for each sealed entry, in the order of the chain."""
    with open_database(settings):
        for line in lines_after(_start(since, after)):
            print(line)
    return 0


def _start(since: datetime | None, after: int | None) -> End:
    if after is not None:
        return place_at(after)
    return position_before(since) if since is not None else start_of_chain()


def _described(found: Verified) -> str:
    start, end = found.start, found.end
    lines = []
    if start.position:
        lines.append(
            f"up to position {start.position} retention has removed everything; its hash is {start.hash.hex()}"
        )
    if end.at is not None:
        when = f"{end.at:%Y-%m-%d %H:%M:%S} UTC"
        lines.append(f"sealed and in order up to position {end.position}: entry {end.entry_id} of {when}")
        lines.append(f"known as {end.position}:{end.hash.hex()}")
    else:
        lines.append("nothing is sealed" if not start.position else "nothing else is sealed")
    if found.unsealed:
        lines.append(f"not sealed yet: {found.unsealed}; a worker seals what is new within seconds")
    return "\n".join(lines)
