"""Statements that PostgreSQL parses and plans once for each connection, and then only executes.

Parsing and planning one of the larger statements takes PostgreSQL longer than executing it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cached_property
from typing import Any

from peewee import Query

from vm_webapp.db.compiled import Compiled

_PLACEHOLDER = re.compile(r"%\((\w+)\)s|%%")


class Prepared:
    """A statement to be prepared on the connection that executes it.

    Args:
        statement: SQL text with ``%(name)s`` for each value; or a compiled query, in whose text the values stand that
            it was built with: a plan for any status could not use the partial index of one. PostgreSQL infers the type
            of a value from its first use, so a value that only stands in a select list needs a cast.
    """

    def __init__(self, statement: Compiled | str) -> None:
        self._statement = statement

    @cached_property
    def text(self) -> str:
        """The SQL, with ``%(name)s`` for each value, to be executed without being prepared."""
        return self._statement if isinstance(self._statement, str) else self._statement.named_text

    @cached_property
    def _numbered(self) -> tuple[str, list[str]]:
        """The SQL with ``$1`` and so on for its values, and their names in this order."""
        names: dict[str, int] = {}

        def number(found: re.Match[str]) -> str:
            return "%" if found[0] == "%%" else f"${names.setdefault(found[1], len(names) + 1)}"

        return _PLACEHOLDER.sub(number, self.text), list(names)

    def preparing(self, name: str) -> str:
        """Return the statement that prepares this one under a name."""
        return f"PREPARE {name} AS {self._numbered[0]}"

    def executing(self, name: str) -> str:
        """Return the statement that executes this one, with a placeholder for each of ``values``."""
        places = ", ".join(["%s"] * len(self._numbered[1]))
        return f"EXECUTE {name} ({places})" if places else f"EXECUTE {name}"

    def values(self, given: Mapping[str, Any]) -> list[Any]:
        """Return the values of ``executing`` in their order."""
        return [given[name] for name in self._numbered[1]]


def prepared(query: Query) -> Prepared:
    """Return a query whose text is generated once and prepared on each connection."""
    return Prepared(Compiled(query))
