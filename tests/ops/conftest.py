"""A database role that may connect and nothing more."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.ops.faults import reopen_pool
from tests.support.fleet import change

ROLE = "unprivileged"


@pytest.fixture
def unprivileged_url(database: str) -> Iterator[str]:
    """The database's URL for a role, named ``unprivileged``, that may connect and nothing more."""
    # Roles belong to the whole server: dropped at the end, or the next test's database could not create it.
    change(f"CREATE ROLE {ROLE} LOGIN")
    yield database.replace("postgres@", f"{ROLE}@")
    # A test may have left the pool open for that role, which may not drop anything.
    reopen_pool(database)
    change(f"DROP OWNED BY {ROLE}")
    change(f"DROP ROLE {ROLE}")
