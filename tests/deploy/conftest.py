"""A database that has not been migrated, and a free port."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import closing
from uuid import uuid4

import psycopg2
import pytest

from tests.support.databases import url_of
from vm_webapp.local import LocalServers


@pytest.fixture
def empty_database_url(servers: LocalServers) -> Iterator[str]:
    """The URL of a new database without a table."""
    name = f"test_{uuid4().hex}"
    with closing(psycopg2.connect(servers.database_url)) as session:
        session.autocommit = True
        cursor = session.cursor()
        cursor.execute(f'CREATE DATABASE "{name}"')
        yield url_of(servers, name)
        cursor.execute(f'DROP DATABASE "{name}" WITH (FORCE)')


@pytest.fixture
def port() -> int:
    """A loopback port on which nothing listens."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])
