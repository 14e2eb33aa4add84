"""Finds out whether the database's disk is full: reads and small updates still work then, and nothing else."""

from __future__ import annotations

from peewee import DatabaseError

from vm_webapp.db.pool import execute, transaction
from vm_webapp.errors import DatabaseDiskFull, DatabaseUnavailable

# A table of some forty kilobytes, which needs new pages on the disk. It vanishes with its transaction.
_TAKE_SPACE = "CREATE TEMPORARY TABLE vm_disk_probe ON COMMIT DROP AS SELECT n FROM generate_series(1, 1000) AS n"


class _SpaceFound(Exception):
    """There is space: the transaction is rolled back."""


def find_full_disk() -> DatabaseDiskFull | None:
    """Return the error with which the database refuses to take more space on its disk, None if it takes it.

    It writes, so it is for moments at which something is wrong already. Other errors are not its subject.
    """
    try:
        with transaction(durable=False):
            execute("SET LOCAL temp_tablespaces = ''")  # the disk of the tables, wherever temporary ones lie
            execute(_TAKE_SPACE)
            raise _SpaceFound
    except DatabaseDiskFull as error:
        return error
    except (_SpaceFound, DatabaseUnavailable, DatabaseError):
        return None
