"""Writes the chain out, for a store that those who can write to this database cannot change."""

from __future__ import annotations

import json
from collections.abc import Iterator

from vm_webapp.access.audit.chain import fields_of
from vm_webapp.access.audit.verification import End, walk


def lines_after(start: End) -> Iterator[str]:
    """Yield a line of JSON for each sealed entry after a place in the chain.

    A line has the ``entry``, its ``position``, its ``hash``, and ``previous``, the hash before it: ``hash`` is the
    SHA-256 of the bytes of ``previous`` followed by those of ``entry`` in its canonical form (see ``chain``). The line
    itself is ASCII, which every stream can take.

    Raises:
        AuditBroken: the next entry is not as it was sealed.
    """
    previous = start.hash.hex()
    position = start.position
    for sealed in walk(start):
        if sealed["position"] != position + 1:
            return  # retention has overtaken this export: what follows would not be complete
        position, hash = sealed["position"], bytes(sealed["hash"]).hex()
        line = {"entry": fields_of(sealed), "hash": hash, "position": position, "previous": previous}
        yield json.dumps(line, sort_keys=True, separators=(",", ":"))
        previous = hash
