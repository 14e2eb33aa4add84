"""``serve`` on a laptop: one command, everything in it, and nothing left behind."""

from __future__ import annotations

import http.client
import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.folders import open_folder
from tests.support.processes import is_running, program
from tests.support.serving import served, servers_of, started_anew
from tests.support.waiting import eventually


@pytest.fixture
def root() -> Iterator[Path]:
    """A new, empty workspace."""
    with open_folder() as folder:
        yield folder / "workspace"


@pytest.fixture(scope="module")
def used() -> Iterator[Path]:
    """A workspace that the tests share to which a first start does not matter: only one of them creates it."""
    with open_folder() as folder:
        yield folder / "workspace"


def test_one_command_completes_a_run_and_leaves_nothing_running(root: Path) -> None:
    with started_anew(root) as serving:
        run = serving.run_to_the_end()
        assert run["status"] == "completed"
        document = serving.client.get(f"/runs/{run['id']}/artifacts/calendar")
        assert document.headers["content-type"].startswith("text/markdown")
        assert "no model was called" in document.text
        lines = serving.program.stdout.read_text().splitlines()
        assert lines[0].startswith("API       http://127.0.0.1:")
        assert "offline" in lines[1]
        assert str(root) in lines[2]
        pids = [serving.worker_pid(), *servers_of(root)]
        assert len(pids) >= 2
        assert serving.program.stop() == 0
        assert not any(is_running(pid) for pid in pids)
        assert "Traceback" not in serving.program.output()


def test_a_worker_that_dies_is_replaced_and_sigkill_leaves_nothing_that_blocks_the_next_start(root: Path) -> None:
    with served(root) as serving:
        eventually(serving.ready, "ready", seconds=20)
        first = serving.worker_pid()
        os.kill(first, signal.SIGKILL)
        eventually(lambda: serving.worker_pid() != first, "another worker")
        worker = serving.worker_pid()
        run = serving.run_to_the_end("smoke")
        serving.program.kill()
        eventually(lambda: not is_running(worker), "the worker sees that its parent is gone")
    with served(root) as again:
        assert again.client.get(f"/runs/{run['id']}").json()["status"] == "completed"
        assert again.run_to_the_end("smoke")["status"] == "completed"


def test_ctrl_c_at_a_bad_moment_leaves_nothing_running(root: Path) -> None:
    given = {"VM_WORKSPACE_ROOT": str(root)}
    servers = root / "servers"
    moments: dict[str, Callable[[int], bool]] = {
        "initdb runs": lambda _: (servers / "postgres.new" / "base").exists(),
        "PostgreSQL starts": lambda _: (servers / "postgres" / "postmaster.pid").exists(),
        "its modules are imported": lambda pid: "pydantic" in Path(f"/proc/{pid}/maps").read_text(),
    }
    for moment, has_come in moments.items():
        with program("serve", "--port", "0", env=given, folder=root.parent / "log") as running:
            eventually(lambda has_come=has_come, pid=running.pid: has_come(pid), moment)  # type: ignore[misc]
            os.killpg(running.pid, signal.SIGINT)  # to the whole group, as a terminal does
            assert running.wait(seconds=40) in (0, 130, -signal.SIGINT), (moment, running.output())
            assert "Traceback" not in running.output()
        eventually(lambda: not servers_of(root), "no server is left")


def test_a_second_worker_joins_the_same_servers(used: Path) -> None:
    with served(used, "--no-worker") as serving:
        env = {"VM_WORKSPACE_ROOT": str(used)}
        with program("worker", "--poll-interval-ms", "100", env=env, folder=used.parent / "second") as worker:
            assert serving.run_to_the_end("smoke")["status"] == "completed"
            assert serving.program.stop() == 0
            assert servers_of(used), "the worker still uses them"
            assert worker.stop() == 0
        eventually(lambda: not servers_of(used), "the last one out stops them")


def test_requests_in_flight_finish_at_shutdown(used: Path) -> None:
    with served(used, "--no-worker") as serving:
        created = serving.client.post("/runs", json={"workflow": "smoke", "request": "x"}).json()
        address = serving.client.base_url
        waiting = http.client.HTTPConnection(address.host, address.port, timeout=40)
        waiting.request("GET", f"/api/v2/runs/{created['id']}?wait=30")
        # Two responses on another connection: by then the request before them has been read.
        for _ in range(2):
            assert serving.client.get("/health/live").status_code == 200
        began = time.monotonic()
        serving.program.signal(signal.SIGTERM)
        response = waiting.getresponse()
        assert (response.status, b'"queued"' in response.read()) == (200, True)
        assert serving.program.wait() == 0
        assert time.monotonic() - began < 10


def test_a_port_that_is_taken_is_one_clear_line(used: Path) -> None:
    with served(used, "--no-worker") as serving:
        port = str(serving.client.base_url.port)
        env = {"VM_WORKSPACE_ROOT": str(used)}
        with program("serve", "--port", port, env=env, folder=used.parent / "second") as second:
            assert second.wait() == 2
            assert second.output().strip().splitlines() == [
                f"vm_webapp: cannot listen on 127.0.0.1:{port}: address already in use;"
                " choose another with --host and --port"
            ]
        assert serving.client.get("/health/live").json() == {"status": "live"}
