"""What PostgreSQL says of an error."""

from __future__ import annotations


def sqlstate(error: Exception) -> str | None:
    """Return the five characters of SQLSTATE that PostgreSQL gave an error of Peewee's, or None."""
    return getattr(getattr(error, "orig", None), "pgcode", None)
