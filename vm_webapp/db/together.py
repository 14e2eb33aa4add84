"""Reads that go to PostgreSQL as one statement, in one round trip."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from vm_webapp.db.compiled import Compiled
from vm_webapp.db.pool import Row, rows
from vm_webapp.db.prepared import Prepared

Statement = Prepared | Compiled | str
Ask = Callable[..., list[Row]]  # like ``rows``: a statement, and its values by name
_NAMED = re.compile(r"%\((\w+)\)s")


class NotRead(Exception):
    """A statement was asked for that was not among those that were read together."""


def read_together(*asked: tuple[Statement, dict[str, Any]], lock_timeout: str) -> Ask:
    """Run queries as one statement, outside a transaction of the caller's.

    Args:
        asked: each query, with its values by name.
        lock_timeout: how long it waits for a lock, such as ``200ms``.

    Returns:
        A function like ``rows`` for these queries and values; it raises ``NotRead`` for any other. What JSON does not
        have, such as a time, comes as text.

    Raises:
        DatabaseError: one of the queries failed.
    """
    columns, values = [], dict[str, Any]()
    for number, (statement, given) in enumerate(asked):
        text, its_values = _numbered(statement, given, f"q{number}_")
        columns.append(f"(SELECT coalesce(json_agg(q), '[]') FROM ({text}) q) AS q{number}")
        values |= its_values
    (found,) = rows(f"SET LOCAL lock_timeout = '{lock_timeout}'; SELECT {', '.join(columns)}", **values)

    def ask(statement: Statement, **given: Any) -> list[Row]:
        for number, each in enumerate(asked):
            if each[0] is statement and each[1] == given:
                read: list[Row] = found[f"q{number}"]
                return read
        raise NotRead

    return ask


def _numbered(statement: Statement, given: dict[str, Any], prefix: str) -> tuple[str, dict[str, Any]]:
    """Return the text with a name for each value that no other query has, and the values by these names."""
    return (
        _NAMED.sub(rf"%({prefix}\1)s", _text_of(statement)),
        {f"{prefix}{name}": value for name, value in given.items()},
    )


def _text_of(statement: Statement) -> str:
    if isinstance(statement, str):
        return statement
    return statement.named_text if isinstance(statement, Compiled) else statement.text
