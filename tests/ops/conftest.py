"""A role that the database lets in, and no further."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.ops.disorder import open_anew
from tests.support.fleet import change

ROLE = "poor"


@pytest.fixture
def poor_url(database: str) -> Iterator[str]:
    """The database's URL for a role, named ``poor``, that may connect and nothing more."""
    change(f"CREATE ROLE {ROLE} LOGIN")
    yield database.replace("postgres@", f"{ROLE}@")
    open_anew(database)
    change(f"DROP OWNED BY {ROLE}")
    change(f"DROP ROLE {ROLE}")
