"""Statements that PostgreSQL parses and plans once for each connection, and then only executes.

Parsing and planning one of the larger statements takes PostgreSQL longer than executing it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, cast

from peewee import Query
from psycopg2.extensions import adapt

from vm_webapp.db.compiled import Compiled

_PLACEHOLDER = re.compile(r"%(?:\((\w+)\))?s|%%")


class Prepared:
    """A statement to be prepared on the connection that executes it.

    Args:
        statement: a compiled query, or SQL text with ``%(name)s`` for each value. PostgreSQL infers the type of a value
            from its first use, so a value that only stands in a select list needs a cast.
    """

    def __init__(self, statement: Compiled | str) -> None:
        self._compiled = statement if isinstance(statement, Compiled) else None
        self.text = statement if isinstance(statement, str) else statement.text
        self._constants = self._compiled.constants if self._compiled else {}
        self._seen = 0
        self._places: dict[str, int] = {}
        self._numbered = _PLACEHOLDER.sub(self._number, self.text)

    def preparing(self, name: str) -> str:
        """Return the statement that prepares this one under a name."""
        return f"PREPARE {name} AS {self._numbered}"

    def executing(self, name: str) -> str:
        """Return the statement that executes this one, with a placeholder for each of ``values``."""
        places = ", ".join(["%s"] * len(self._places))
        return f"EXECUTE {name} ({places})" if places else f"EXECUTE {name}"

    def values(self, given: Mapping[str, Any]) -> list[Any]:
        """Return the values of ``executing`` in their order."""
        if self._compiled is not None:
            values = self._compiled.values(given)
            return [value for place, value in enumerate(values) if place not in self._constants]
        return [given[name] for name in self._places]

    def values_of_text(self, given: Mapping[str, Any]) -> Mapping[str, Any] | list[Any]:
        """Return the values of ``text``, to be executed without being prepared."""
        return given if self._compiled is None else self._compiled.values(given)

    def _number(self, found: re.Match[str]) -> str:
        if found[0] == "%%":
            return "%"
        # A compiled query has a placeholder without a name for each value, also for what is the same each time. That
        # stands in the text: a plan for any status could not use the partial index of one.
        place, self._seen = self._seen, self._seen + 1
        if place in self._constants:
            return cast(str, adapt(self._constants[place]).getquoted().decode())
        name = found[1] or str(place)
        return f"${self._places.setdefault(name, len(self._places) + 1)}"


def prepared(query: Query) -> Prepared:
    """Return a query whose text is generated once and prepared on each connection."""
    return Prepared(Compiled(query))
