"""Indexes that a failed statement with CONCURRENTLY left behind: writers maintain them, and no query uses them."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from vm_webapp.db.pool import Row

# A build in progress is invalid too. That of a partitioned table (relkind I) is invalid until its partitions have one.
_INVALID = """
SELECT quote_ident(n.nspname) || '.' || quote_ident(c.relname) AS full_name, c.relname AS name, t.relname AS table_name
  FROM pg_index i
  JOIN pg_class c ON c.oid = i.indexrelid
  JOIN pg_class t ON t.oid = i.indrelid
  JOIN pg_namespace n ON n.oid = c.relnamespace
 WHERE NOT i.indisvalid AND c.relkind = 'i'
   AND NOT EXISTS (SELECT FROM pg_stat_progress_create_index p
                    WHERE p.datname = current_database() AND p.relid = i.indrelid)
 ORDER BY 1
"""
_UNNAMED = re.compile(r"\bINDEX\s+CONCURRENTLY\s+ON\b", re.IGNORECASE)
# REINDEX CONCURRENTLY builds name_ccnew and calls the old one name_ccold, with a number if that name is taken.
_OF_REINDEX = re.compile(r"_cc(new|old)\d*$")


@dataclass(frozen=True, slots=True)
class InvalidIndex:
    """An invalid index.

    Attributes:
        full_name: with its schema, quoted where needed.
        name: alone.
        table_name: that of its table, alone.
    """

    full_name: str
    name: str
    table_name: str

    @property
    def drop(self) -> str:
        """The statement that drops it and blocks nobody."""
        return f"DROP INDEX CONCURRENTLY {self.full_name}"

    def is_left_by(self, sql: str) -> bool:
        """Return whether these statements may have left it."""
        base = _OF_REINDEX.sub("", self.name)
        if base != self.name and re.search(r"\bREINDEX\b", sql, re.IGNORECASE):
            return True
        return _mentions(sql, base) or (bool(_UNNAMED.search(sql)) and _mentions(sql, self.table_name))


def read_invalid_indexes(ask: Callable[[str], list[Row]]) -> list[InvalidIndex]:
    """Return the invalid indexes of a database that nobody is building now.

    Args:
        ask: runs a statement and returns its rows.
    """
    return [InvalidIndex(**found) for found in ask(_INVALID)]


def _mentions(sql: str, name: str) -> bool:
    return re.search(rf"(?<!\w){re.escape(name)}(?!\w)", sql, re.IGNORECASE) is not None
