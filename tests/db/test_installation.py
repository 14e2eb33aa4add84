"""Which database a process works on, as its keys in Redis say."""

from __future__ import annotations

from vm_webapp.db.pool import close_pool, open_pool, transaction
from vm_webapp.fleet.installation import find_fingerprint, known_fingerprint, read_fingerprint


def test_it_is_read_once_for_each_pool(database: str) -> None:
    assert known_fingerprint() is None
    found = find_fingerprint()
    assert found is not None
    assert known_fingerprint() == found
    with transaction():
        assert read_fingerprint() == found
    open_pool(database, max_connections=1, application_name="of another database, perhaps")
    assert known_fingerprint() is None


def test_while_the_database_cannot_be_reached_it_is_not_known() -> None:
    open_pool("postgresql://127.0.0.1:1/none", max_connections=1, application_name="tests")
    assert find_fingerprint() is None
    close_pool()
