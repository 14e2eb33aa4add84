"""A real PgBouncer in front of the tests' PostgreSQL."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from urllib.parse import quote

import psycopg2
import pytest
from psycopg2.extensions import parse_dsn

from tests.support.waiting import eventually
from vm_webapp.local.account import servers_user

ROLE, PASSWORD = "postgres", "p#/[@:% x"  # every character that has a meaning in a URL
WITHOUT_IT = "PgBouncer is not installed: apt-get install pgbouncer"


@dataclass(frozen=True)
class PgBouncer:
    """A running PgBouncer.

    Attributes:
        port: where it listens on 127.0.0.1.
        pid: its process id.
        log: the file that it writes to.
    """

    port: int
    pid: int
    log: Path

    def url(self, database: str, password: str = PASSWORD) -> str:
        """Return the URL of a database behind it."""
        return f"postgresql://{ROLE}:{quote(password, safe='')}@127.0.0.1:{self.port}/{database}"

    def admin(self, command: str) -> list[dict[str, object]]:
        """Run a command on its console, such as ``SHOW POOLS``; return the rows by column."""
        session = psycopg2.connect(self.url("pgbouncer"))
        try:
            session.autocommit = True
            with session.cursor() as cursor:
                cursor.execute(command)
                names = [column.name for column in cursor.description or ()]
                return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]
        finally:
            session.close()

    def names(self) -> set[str]:
        """Return the application names of its clients."""
        return {str(client["application_name"]) for client in self.admin("SHOW CLIENTS")}


def require_pgbouncer() -> str:
    """Return the program's path; skip the test where it is missing, but fail it in CI."""
    program = shutil.which("pgbouncer", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    if program is None:
        if os.environ.get("CI") == "true":
            pytest.fail(WITHOUT_IT)
        pytest.skip(WITHOUT_IT)
    return program


@contextmanager
def pgbouncer(database_url: str, **settings: object) -> Iterator[PgBouncer]:
    """Run a PgBouncer in front of a database's server during the block.

    Args:
        database_url: any database of the server.
        settings: settings of ``pgbouncer.ini`` that differ from those below.
    """
    program, server, account = require_pgbouncer(), parse_dsn(database_url), servers_user()
    port = _free_port()
    given: dict[str, object] = {
        "listen_addr": "127.0.0.1",
        "listen_port": port,
        "unix_socket_dir": "",
        "auth_type": "plain",
        "admin_users": ROLE,
        "pool_mode": "transaction",
        "max_client_conn": 200,
        "default_pool_size": 10,
        **settings,
    }
    with TemporaryDirectory(prefix="vm-pgbouncer-") as name:
        folder = Path(name)
        given |= {"auth_file": folder / "users.txt", "logfile": folder / "log"}
        (folder / "users.txt").write_text(f'"{ROLE}" "{PASSWORD}"\n')
        (folder / "pgbouncer.ini").write_text(
            f"[databases]\n* = host={server['host']} port={server['port']}\n[pgbouncer]\n"
            + "".join(f"{key} = {value}\n" for key, value in given.items())
        )
        if account:  # PgBouncer refuses to run as root
            for path in (folder, *folder.iterdir()):
                os.chown(path, account.pw_uid, account.pw_gid)
        running = subprocess.Popen(
            [program, "-q", folder / "pgbouncer.ini"],
            user=account.pw_uid if account else None,
            group=account.pw_gid if account else None,
            extra_groups=[] if account else None,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            eventually(lambda: _listens(port) or running.poll() is not None, "PgBouncer listens")
            assert running.poll() is None, (folder / "log").read_text()
            yield PgBouncer(port, running.pid, folder / "log")
        finally:
            running.kill()
            running.wait(10)


def _free_port() -> int:
    with socket.socket() as reserved:
        reserved.bind(("127.0.0.1", 0))
        return int(reserved.getsockname()[1])


def _listens(port: int) -> bool:
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0
