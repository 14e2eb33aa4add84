"""The embedded servers for a whole session, and a fresh migrated database for each test that asks for one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory
from uuid import uuid4

import psycopg2
import pytest
import redis

from vm_webapp.db import migrate
from vm_webapp.db.pool import close_pool, open_pool
from vm_webapp.local import LocalServers, find_redis_server, start_local_servers

TEMPLATE = "vm_template"


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add ``--full``."""
    parser.addoption(
        "--full", action="store_true", help="run the chaos tests at full size: an hour instead of a minute"
    )


@pytest.fixture(scope="session")
def full(request: pytest.FixtureRequest) -> bool:
    """Whether tests that have a long form should take it."""
    return bool(request.config.getoption("--full"))


@pytest.fixture(scope="session")
def servers() -> Iterator[LocalServers]:
    """A real PostgreSQL and a real Redis."""
    # Not below pytest's folder: each start of pytest shuts that to everybody else, PostgreSQL's user included.
    with TemporaryDirectory(prefix="vm-tests-") as root, start_local_servers(Path(root), durable=False) as running:
        yield running


@pytest.fixture(scope="session")
def template(servers: LocalServers) -> str:
    """A migrated database, copied for each test: copying is faster than migrating."""
    _administer(servers, f'CREATE DATABASE "{TEMPLATE}"')
    migrate.apply_pending(url_of(servers, TEMPLATE))
    return TEMPLATE


@pytest.fixture
def database_url(servers: LocalServers, template: str) -> Iterator[str]:
    """The URL of a database of this test's own."""
    name = f"test_{uuid4().hex}"
    _administer(servers, f'CREATE DATABASE "{name}" TEMPLATE "{template}" STRATEGY file_copy')
    yield url_of(servers, name)
    _administer(servers, f'DROP DATABASE "{name}" WITH (FORCE)')


@pytest.fixture
def database(database_url: str) -> Iterator[str]:
    """Like ``database_url``, with this process's pool open on it."""
    open_pool(database_url, max_connections=16, application_name="tests")
    yield database_url
    close_pool()


@pytest.fixture
def redis_url(servers: LocalServers) -> str:
    """The Redis of the session, empty."""
    if find_redis_server() is None:
        pytest.skip("there is no Redis server for this platform")
    assert servers.redis_url is not None, servers.notes
    with redis.Redis.from_url(servers.redis_url) as client:
        client.flushall()
    return servers.redis_url


def url_of(servers: LocalServers, name: str) -> str:
    """Return the URL of another database on the same server."""
    return servers.database_url.replace("/vm_webapp?", f"/{name}?")


def _administer(servers: LocalServers, statement: str) -> None:
    with closing(psycopg2.connect(servers.database_url)) as session:
        session.autocommit = True
        with session.cursor() as cursor:
            cursor.execute(statement)
