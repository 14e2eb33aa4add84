"""A workspace whose data folder is created once, and other processes that use the same servers."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from pathlib import Path

import psycopg2
import pytest

from tests.support.folders import open_folder
from vm_webapp.local import LocalServers, start_local_servers
from vm_webapp.local.users import ServerLock

# Starts the servers, prints their process ids, and stops using them when its input ends.
USER = """
import sys
from pathlib import Path
from vm_webapp.local import start_local_servers
with start_local_servers(Path(sys.argv[1]), durable=False) as servers:
    print(servers.postgres_pid(), servers.redis_pid(), flush=True)
    sys.stdin.read()
"""


class OtherProcess:
    """Another user of a workspace's servers, in a process of its own."""

    def __init__(self, root: Path, environment: Mapping[str, str]) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", USER, str(root)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=os.environ | environment,
        )

    def pids(self) -> tuple[str, ...]:
        """Wait for the servers and return the ids of PostgreSQL and Redis, as text."""
        assert self.process.stdout is not None
        return tuple(self.process.stdout.readline().split())

    def leave(self) -> str:
        """Let it end normally; return its stderr."""
        return self.process.communicate("", timeout=30)[1]

    def kill(self) -> None:
        """End it with SIGKILL."""
        self.process.kill()
        self.process.communicate(timeout=30)


@pytest.fixture
def other(workspace: Path) -> Iterator[Callable[..., OtherProcess]]:
    """Start another user of the workspace: ``other(NAME=value)`` adds to its environment."""
    started: list[OtherProcess] = []

    def start(root: Path = workspace, **environment: str) -> OtherProcess:
        started.append(OtherProcess(root, environment))
        return started[-1]

    yield start
    for each in started:
        each.kill()


@pytest.fixture(scope="session")
def made() -> Iterator[Path]:
    """A workspace whose servers ran once and are stopped."""
    with open_folder() as root:
        start_local_servers(root, durable=False).close()
        yield root


@pytest.fixture
def place() -> Iterator[Path]:
    """An empty folder."""
    with open_folder() as folder:
        yield folder


@pytest.fixture
def workspace(made: Path) -> Iterator[Path]:
    """The workspace of ``made``; servers that a test leaves running are stopped after it."""
    yield made
    if lives(made, "postgres") or lives(made, "redis"):
        start_local_servers(made, durable=False).close()
    assert not lives(made, "postgres")
    assert not lives(made, "redis")


def lives(root: Path, server: str) -> bool:
    """Return whether any process of a server of this workspace lives."""
    return ServerLock(root / "servers" / f"{server}.lock").held()


def copy_workspace(root: Path, to: Path) -> Path:
    """Copy a workspace whose servers are stopped, with its owners; faster than creating one."""
    to.parent.mkdir(parents=True, exist_ok=True)
    subprocess.run(["cp", "-a", str(root), str(to)], check=True)
    return to


def kill(pid: int | None) -> None:
    """Send SIGKILL."""
    assert pid is not None
    os.kill(pid, signal.SIGKILL)


def ask(servers: LocalServers, statement: str) -> list[tuple[object, ...]]:
    """Run a statement on the embedded database."""
    with closing(psycopg2.connect(servers.database_url)) as session, session, session.cursor() as cursor:
        cursor.execute(statement)
        return cursor.fetchall() if cursor.description else []
