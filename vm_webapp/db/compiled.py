"""Peewee queries whose SQL text is generated once and executed many times with different values.

Peewee generates a query's text at every execution, which for larger queries costs more CPU than executing the statement
does. A module builds such a query once, marks the values that vary with ``param``, and executes it with
``vm_webapp.db.pool.rows``, ``row`` or ``execute``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, cast

from peewee import SQL, Query, Value, fn
from psycopg2.extensions import adapt

COUNT = fn.count(SQL("*"))
NOW = fn.clock_timestamp()
"""The database's time at this moment; ``now()`` would be the time at which the transaction began."""
STATEMENT_TIME = fn.statement_timestamp()
"""The time at which the statement began: the same value wherever one statement says it, unlike ``NOW``."""
SECOND, MINUTE, HOUR, DAY = (SQL(f"interval '1 {unit}'") for unit in ("second", "minute", "hour", "day"))

_PLACE = re.compile("%s|%%")

NO_KEY_UPDATE: Any = "FOR NO KEY UPDATE"
"""For ``for_update``: a row lock that new rows with a foreign key to the locked one need not wait for."""


@dataclass(frozen=True, slots=True)
class _Placeholder:
    name: str


def param(name: str) -> Any:
    """Return a placeholder for a value that is given when the query is executed.

    The value reaches PostgreSQL as psycopg2 adapts it: Peewee's conversion of a field's values is not applied, so a
    value for a ``jsonb`` column is wrapped with ``vm_webapp.db.pool.jsonb`` first.
    """
    return Value(_Placeholder(name), converter=False, unpack=False)


class Compiled:
    """A query with its SQL text.

    Args:
        query: the query. Values that it was built with stay; those marked by ``param`` are given at each execution.
    """

    def __init__(self, query: Query) -> None:
        self._query = query

    @cached_property
    def _parts(self) -> tuple[str, list[Any], list[tuple[int, str]]]:
        # At the first run and not when the module is imported: most processes use only some of these queries.
        text, values = self._query.sql()
        places = [(place, value.name) for place, value in enumerate(values) if isinstance(value, _Placeholder)]
        return text, list(values), places

    @property
    def text(self) -> str:
        """The SQL, with ``%s`` for each value."""
        return self._parts[0]

    @property
    def named_text(self) -> str:
        """The SQL, with ``%(name)s`` for each ``param``, and with the values that the query was built with."""
        text, values, _ = self._parts
        left = iter(values)

        def written(found: re.Match[str]) -> str:
            if found[0] == "%%":
                return "%%"
            value = next(left)
            return f"%({value.name})s" if isinstance(value, _Placeholder) else _literal(value)

        return _PLACE.sub(written, text)

    def values(self, given: Mapping[str, Any]) -> list[Any]:
        """Return the values in the order of the text.

        Args:
            given: the value for each ``param`` by its name.

        Raises:
            KeyError: a value is missing.
        """
        _, values, places = self._parts
        values = values.copy()
        for place, name in places:
            values[place] = given[name]
        return values


def delete_from(model: Any) -> Any:
    """Return ``model.delete()``, a DELETE to which conditions are added.

    Its declaration in types-peewee makes mypy report an error or none, depending on the order in which it reads files.
    """
    return model.delete()


def compiled(query: Query) -> Compiled:
    """Return a query whose text is generated once."""
    return Compiled(query)


def _literal(value: Any) -> str:
    return cast(str, adapt(value).getquoted().decode()).replace("%", "%%")
