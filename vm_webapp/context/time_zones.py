"""Time zones of brands."""

from __future__ import annotations

from functools import cache
from zoneinfo import available_timezones

from peewee import DataError

from vm_webapp.db.pool import row
from vm_webapp.errors import InvalidInput


def check_time_zone(name: str) -> None:
    """Check that this is a time zone by its IANA name, inside the current transaction, which fails if it is none.

    UTC is one everywhere, also on a machine without the database of time zones.

    Raises:
        InvalidInput: this machine or PostgreSQL does not know it.
    """
    if name == "UTC":
        return
    if name not in known_time_zones():
        raise InvalidInput("must be the IANA name of a time zone, such as America/Sao_Paulo", pointer="/time_zone")
    try:
        # PostgreSQL may have another edition of the database of time zones. By itself it would also take POSIX's
        # formulas, such as XYZ3, and names in any letter case.
        row("SELECT statement_timestamp() AT TIME ZONE %(name)s AS here", name=name)
    except DataError:
        raise InvalidInput(f"PostgreSQL does not know the time zone {name}", pointer="/time_zone") from None


@cache
def known_time_zones() -> frozenset[str]:
    """Return the IANA names of the time zones that this machine knows."""
    return frozenset(available_timezones())  # it reads a directory tree each time
