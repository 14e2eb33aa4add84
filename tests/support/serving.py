"""A ``serve`` process with its embedded servers, its worker and a client."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from tests.support.processes import Program, child_pids, program
from tests.support.ready_postgres import fill_workspace
from tests.support.waiting import eventually


class Served:
    """A running ``serve`` and a client of it."""

    def __init__(self, running: Program) -> None:
        self.program = running
        running.says("API ", seconds=40)
        found = re.search(r"API\s+(http://\S+)", running.output())
        assert found is not None
        self.client = httpx.Client(base_url=f"{found[1]}/api/v2", timeout=40, trust_env=False)

    def ready(self) -> bool:
        """Whether the API says that work can progress."""
        return self.client.get("/health/ready").status_code == 200

    def worker_pid(self) -> int:
        """Return the process id of the worker that ``serve`` runs."""
        return eventually(self._worker_pid, "a worker")

    def _worker_pid(self) -> int | None:
        return next(iter(_children(self.program.pid, "worker")), None)

    def run_to_the_end(self, workflow: str = "content_calendar") -> dict[str, Any]:
        """Create a run and return it when it is finished."""
        return self.finished(self.create_run(workflow))

    def create_run(self, workflow: str = "content_calendar") -> str:
        """Create a run; return its id."""
        created = self.client.post("/runs", json={"workflow": workflow, "request": "a calendar for a bakery"})
        assert created.status_code == 201, created.text
        return str(created.json()["id"])

    def finished(self, run_id: str, *, seconds: float = 30.0) -> dict[str, Any]:
        """Wait until a run is finished; return it."""

        def read_finished() -> dict[str, Any] | None:
            run: dict[str, Any] = self.client.get(f"/runs/{run_id}", params={"wait": 5}).json()
            return run if run["finished_at"] else None

        return eventually(read_finished, "the run finishes", seconds=seconds)


@contextmanager
def served(root: Path, *arguments: str, **env: str) -> Iterator[Served]:
    """Run ``serve`` on a free port during the block. An unused workspace is given a migrated database before."""
    fill_workspace(root)
    with started_anew(root, *arguments, **env) as serving:
        yield serving


@contextmanager
def started_anew(root: Path, *arguments: str, **env: str) -> Iterator[Served]:
    """Like ``served``, but in an unused workspace ``serve`` makes and migrates the database itself."""
    given = {"VM_WORKSPACE_ROOT": str(root), **env}
    with program("serve", "--port", "0", *arguments, env=given, folder=root.parent / "log") as running:
        serving = Served(running)
        with serving.client:
            yield serving
        if running.process.poll() is None:
            running.stop()  # not killed: its embedded servers would keep running


def servers_of(root: Path) -> list[int]:
    """Return the process ids of a workspace's embedded servers, whose working directories are inside it."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and (entry / "cwd").readlink().is_relative_to(root):
                found.append(int(entry.name))
        except OSError:
            continue
    return found


def api_pids(running: Program) -> list[int]:
    """Return the process ids of the API processes that a ``serve`` runs, none if it is the only one itself."""
    return _children(running.pid, "--on-descriptors")


def _children(pid: int, argument: str) -> list[int]:
    found = []
    for child in child_pids(pid):
        with contextlib.suppress(OSError):  # the process may have ended meanwhile
            if argument.encode() in Path(f"/proc/{child}/cmdline").read_bytes().split(b"\0"):
                found.append(child)
    return found
