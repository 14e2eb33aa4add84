"""Adds entries to the audit trail, in the transaction of the change that they record.

An entry holds names, ids, digests and counts; never a key, a secret or the text of a document.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from vm_webapp.access.actor import Actor
from vm_webapp.db.pool import execute, jsonb

Data = Mapping[str, Any]
"""Texts, whole numbers, booleans, None, and lists of those, by name."""


ACTOR_COLUMNS = "actor, actor_id, role, address, request_id"
"""The columns that ``values_of_actor`` fills, for a statement that adds an entry beside what it changes."""

_ADD = f"""
    INSERT INTO audit_entries ({ACTOR_COLUMNS}, action, target, data)
    SELECT %(actor)s, %(actor_id)s, %(role)s, %(address)s, %(request_id)s, %(action)s, target, data
      FROM unnest(%(targets)s::text[], %(data)s::jsonb[]) WITH ORDINALITY AS added(target, data, number)
     ORDER BY number
"""


def record(actor: Actor, action: str, target: str | None, *, data: Data | None = None) -> None:
    """Add an entry in the current transaction: it is there if the change is, and only then.

    Args:
        actor: who made the change.
        action: what was done, as noun and verb: ``run.cancel``.
        target: what it was done to, as kind and id or name: ``run:<id>``, ``key:<name>``.
        data: what else is worth knowing: digests, counts, names of changed fields.
    """
    record_all(actor, action, [(target, data or {})])


def record_all(actor: Actor, action: str, done: Sequence[tuple[str | None, Data]]) -> None:
    """Like ``record``, for several targets, each with its data, in one statement."""
    execute(
        _ADD,
        action=action,
        targets=[target for target, _ in done],
        data=[jsonb(checked(data)) for _, data in done],
        **values_of_actor(actor),
    )


def values_of_actor(actor: Actor) -> dict[str, str | None]:
    """Return the values of ``ACTOR_COLUMNS`` by their names."""
    return {
        "actor": actor.name,
        "actor_id": actor.id,
        "role": actor.role,
        "address": actor.address,
        "request_id": actor.request_id,
    }


def checked(data: Data) -> dict[str, Any]:
    """Return the data, which must be of values that every JSON library writes in the same way.

    Raises:
        TypeError: a value is something else, such as a float or an object: another program could not repeat its hash.
    """
    for name, value in data.items():
        for each in value if isinstance(value, list | tuple) else (value,):
            if each is not None and not isinstance(each, str | int):
                raise TypeError(f"{name} of an audit entry is {type(each).__name__}; it takes texts and whole numbers")
    return dict(data)
