"""Watches what other users of the machine and of the database can see while the product runs.

A process of its own, because the commands that run in the test's change the environment, which libpq reads.
"""

from __future__ import annotations

import contextlib
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TextIO

import psycopg2

from tests.support.processes import ROOT
from vm_webapp.text import single_line

EVERY_SECONDS = 0.1
SESSIONS = "SELECT application_name, query FROM pg_stat_activity WHERE pid <> pg_backend_pid()"


class Watch:
    """What has been seen.

    Args:
        url: the database, for a role that sees every session.
        folder: where the watcher keeps what it sees.
    """

    def __init__(self, url: str, folder: Path) -> None:
        self._command = [sys.executable, "-m", "tests.secrets.watch", url, str(folder)]
        self._folder = folder
        folder.mkdir(parents=True)

    def traces(self) -> dict[str, bytes]:
        """Return the command lines of all processes, and the names and statements of all sessions."""
        found = {path.name: path.read_bytes() for path in self._folder.iterdir()}
        assert found.keys() == {"the process list", "pg_stat_activity"}
        return found

    @contextmanager
    def looking(self) -> Iterator[None]:
        """Look during the block."""
        with subprocess.Popen(self._command, cwd=ROOT) as watcher:
            yield
            watcher.terminate()


def look(url: str, folder: Path) -> None:
    """Note what can be seen, until the process is ended."""
    with (folder / "the process list").open("w") as processes, (folder / "pg_stat_activity").open("w") as sessions:
        seen: set[str] = set()
        while True:
            with contextlib.suppress(psycopg2.Error), closing(psycopg2.connect(url)) as session:
                session.autocommit = True
                while True:
                    _note(_command_lines(), seen, processes)
                    with session.cursor() as cursor:
                        cursor.execute(SESSIONS)
                        lines = {single_line(f"{name} {statement}") for name, statement in cursor.fetchall()}
                    _note(lines, seen, sessions)
                    time.sleep(EVERY_SECONDS)
            _note(_command_lines(), seen, processes)  # while the database is stopped
            time.sleep(EVERY_SECONDS)


def _command_lines() -> set[str]:
    found = set()
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                found.add(((entry / "cmdline").read_bytes() + (entry / "comm").read_bytes()).decode(errors="replace"))
    return found


def _note(lines: set[str], seen: set[str], out: TextIO) -> None:
    for line in lines - seen:
        out.write(f"{line}\n")
    out.flush()
    seen |= lines


if __name__ == "__main__":
    look(sys.argv[1], Path(sys.argv[2]))
