"""``serve`` with several API processes on one socket: they die, are replaced, drain together and leave nothing."""

from __future__ import annotations

import http.client
import json
import os
import re
import signal
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import httpx
import pytest

from tests.support.api_processes import HEADERS, NEW_RUN, TOKEN, Client, Service, freeze_busy_process, service
from tests.support.deployment import managed_environment
from tests.support.fleet import change
from tests.support.folders import open_folder
from tests.support.forms import only_in_full
from tests.support.processes import Program, child_pids, is_running, program
from tests.support.runs import read
from tests.support.serving import api_pids, served, servers_of
from tests.support.waiting import eventually

# What test_serve shows for one process.
AS_WITH_ONE_PROCESS = pytest.mark.only_in_full


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


@pytest.fixture
def env(database: str, redis_url: str, tmp_path: Path) -> dict[str, str]:
    """The environment of a managed service of two API processes."""
    return managed_environment(database, redis_url, tmp_path, VM_API_TOKEN=TOKEN, WEB_CONCURRENCY="2")


def test_under_load_a_killed_process_fails_only_its_own_requests(env: dict[str, str], tmp_path: Path) -> None:
    with service(env, tmp_path) as serving:
        clients = [Client(serving) for _ in range(6)]
        with ExitStack() as running:
            for client in clients:
                running.enter_context(client)
            eventually(lambda: all(client.created for client in clients), "everybody is served")
            assert not any(client.failed for client in clients)
            pid, in_flight = freeze_busy_process(serving)
            os.kill(pid, signal.SIGKILL)
            eventually(lambda: pid not in serving.pids() and len(serving.pids()) == 2, "it is replaced")
            before = [len(client.created) for client in clients]
            eventually(
                lambda: all(len(client.created) > count for client, count in zip(clients, before, strict=True)),
                "everybody is served again",
            )
        assert {attempt.port for client in clients for attempt in client.failed} == in_flight
        created = [run_id for client in clients for run_id in client.created.values()]
        assert sorted(created) == sorted(str(row["id"]) for row in read("SELECT id FROM runs"))
        assert len(set(created)) == len(created)
        said = serving.program.stderr.read_text()
        (died,) = [json.loads(line) for line in said.splitlines() if "api.died" in line]
        assert died["exit_code"] == -signal.SIGKILL
        assert serving.program.stop() == 0


def test_five_deaths_within_a_minute_stop_all_processes(env: dict[str, str], tmp_path: Path) -> None:
    with service(env, tmp_path) as serving:
        for _ in range(4):
            serving.kill_one()
        assert serving.live()
        survivor = serving.pids()
        serving.kill_one()
        assert serving.program.wait() == 1
        assert not any(is_running(pid) for pid in survivor)
        said = [line for line in serving.program.stderr.read_text().splitlines() if line.startswith("vm_webapp: ")]
        assert len(said) == 1
        assert "5 API processes died within a minute" in said[0]
        assert "Traceback" not in serving.program.output()


@pytest.mark.parametrize("ask", ["the parent", only_in_full("the group")])
def test_at_shutdown_every_process_finishes_its_requests(env: dict[str, str], tmp_path: Path, ask: str) -> None:
    with service(env, tmp_path) as serving:
        run = httpx.post(f"{serving.url}/runs", json=NEW_RUN, headers=HEADERS, trust_env=False).json()
        pids = serving.pids()
        path = f"/api/v2/runs/{run['id']}"
        waiting = wait_on_each(serving, f"{path}?wait=30", HEADERS)
        streams = wait_on_each(serving, f"{path}/events", HEADERS | {"Accept": "text/event-stream"})
        responses = [stream.getresponse() for stream in streams.values()]
        for response in responses:
            assert b"run.created" in next(line for line in response if line.startswith(b"data: "))
        began = time.monotonic()
        if ask == "the parent":
            serving.program.signal(signal.SIGTERM)
        else:
            os.killpg(serving.program.pid, signal.SIGINT)
        for request in waiting.values():
            response = request.getresponse()
            assert (response.status, b'"queued"' in response.read()) == (200, True)
        for stream in responses:
            assert b"run.created" not in stream.read()  # to its end: it is not cut off
        assert serving.program.wait() == 0
        assert time.monotonic() - began < 10
        assert not any(is_running(pid) for pid in pids)
        assert serving.program.stdout.read_text().endswith("\nstopping …\n")
        for trouble in ("api.died", "request.failed", "Traceback"):
            assert trouble not in serving.program.output()
        with pytest.raises(ConnectionRefusedError):
            serving.connect()


def wait_on_each(serving: Service, path: str, headers: dict[str, str]) -> dict[int, http.client.HTTPConnection]:
    """Begin a GET on each process; return the connections over which the responses will come."""
    found = {}
    for pid, (waiting, other, *_) in serving.connect_to_each(2).items():
        waiting.request("GET", path, headers=headers)
        # Two responses on another connection to the same process: by then it has read the request before them.
        for _ in range(2):
            other.request("GET", "/api/v2/health/live")
            assert json.loads(other.getresponse().read()) == {"status": "live"}
        found[pid] = waiting
    return found


def go_on(pid: int) -> None:
    """Continue a process that was stopped with SIGSTOP, if it still exists."""
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGCONT)


def test_a_second_signal_within_two_seconds_is_ignored_and_a_later_one_exits_at_once(
    env: dict[str, str], tmp_path: Path
) -> None:
    with service(env, tmp_path) as serving, ExitStack() as stopped:
        frozen, *_ = pids = serving.pids()
        os.kill(frozen, signal.SIGSTOP)  # it cannot drain
        stopped.callback(go_on, frozen)
        asked = time.monotonic()
        serving.program.signal(signal.SIGTERM)
        serving.program.says("stopping …")
        serving.program.signal(signal.SIGTERM)
        eventually(lambda: time.monotonic() - asked > 2.2, "two seconds")
        assert serving.program.process.poll() is None
        serving.program.signal(signal.SIGTERM)
        assert serving.program.wait(seconds=2) == 1
        eventually(lambda: not any(is_running(pid) for pid in pids), "nothing is left")


def test_when_the_parent_is_killed_nothing_is_left(used: Path) -> None:
    with served(used, WEB_CONCURRENCY="2") as serving:
        eventually(serving.ready, "ready", seconds=20)
        pids = [*api_pids(serving.program), serving.worker_pid(), *servers_of(used)]
        assert len(api_pids(serving.program)) == 2
        serving.program.kill()
        eventually(lambda: not any(is_running(pid) for pid in pids), "nothing is left", seconds=20)
        assert not servers_of(used)
        assert "Traceback" not in serving.program.output()


def test_requests_in_flight_finish_when_the_parent_is_killed(env: dict[str, str], tmp_path: Path) -> None:
    with service(env, tmp_path) as serving:
        run = httpx.post(f"{serving.url}/runs", json=NEW_RUN, headers=HEADERS, trust_env=False).json()
        waiting = wait_on_each(serving, f"/api/v2/runs/{run['id']}?wait=30", HEADERS)
        serving.program.kill()
        for request in waiting.values():
            assert request.getresponse().status == 200
        eventually(lambda: not any(map(is_running, waiting)), "the processes see that their parent is gone")


def test_one_command_starts_everything_and_one_worker(used: Path) -> None:
    with served(used, WEB_CONCURRENCY="2") as serving:
        lines = serving.program.stdout.read_text().splitlines()
        assert [line.split()[0] for line in lines] == ["API", "Model", "Data", "Worker"]
        assert str(used) in lines[2]
        assert lines[3] == "Worker    a child process of this one"
        assert serving.run_to_the_end("smoke")["status"] == "completed"
        assert len(api_pids(serving.program)) == 2
        workers = [pid for pid in child_pids(serving.program.pid) if pid not in api_pids(serving.program)]
        assert workers == [serving.worker_pid()]
        pids = [*api_pids(serving.program), *workers, *servers_of(used)]
        assert serving.program.stop() == 0
        assert not any(is_running(pid) for pid in pids)
        assert "Traceback" not in serving.program.output()


@AS_WITH_ONE_PROCESS
def test_a_worker_that_dies_is_replaced_and_no_api_is(used: Path) -> None:
    with served(used, WEB_CONCURRENCY="2") as serving:
        apis, first = api_pids(serving.program), serving.worker_pid()
        os.kill(first, signal.SIGKILL)
        eventually(lambda: serving.worker_pid() != first, "another worker")
        assert api_pids(serving.program) == apis


@AS_WITH_ONE_PROCESS
def test_ctrl_c_at_a_bad_moment_leaves_nothing_running(root: Path) -> None:
    given = {"VM_WORKSPACE_ROOT": str(root), "WEB_CONCURRENCY": "2"}
    moments: dict[str, Callable[[Program], bool]] = {
        "initdb runs": lambda _: (root / "servers" / "postgres.new" / "base").exists(),
        "the first API process starts": lambda running: bool(api_pids(running)),
        "the second API process starts": lambda running: len(api_pids(running)) == 2,
    }
    for moment, has_come in moments.items():
        with program("serve", "--port", "0", env=given, folder=root.parent / "log") as running:
            eventually(lambda has_come=has_come, running=running: has_come(running), moment)  # type: ignore[misc]
            pids = child_pids(running.pid)
            os.killpg(running.pid, signal.SIGINT)
            assert running.wait(seconds=40) in (0, 130, -signal.SIGINT), (moment, running.output())
            assert "Traceback" not in running.output()
        eventually(lambda pids=pids: not any(map(is_running, pids)), "no child is left")  # type: ignore[misc]
        eventually(lambda: not servers_of(root), "no server is left")


def test_in_managed_mode_only_the_api_processes_run_and_each_address_of_a_name_is_served(
    env: dict[str, str], tmp_path: Path
) -> None:
    found = {address[4][0] for address in socket.getaddrinfo("localhost", 0, type=socket.SOCK_STREAM)}
    with service(env, tmp_path, "--host", "localhost") as serving:
        assert sorted(child_pids(serving.program.pid)) == sorted(serving.pids())
        assert len(serving.pids()) == 2
        # How it begins depends on how this process was started.
        assert re.search(r"Worker    none here: .*python\S* -m vm_webapp worker", serving.program.stdout.read_text())
        for address in found:
            connection = http.client.HTTPConnection(str(address), serving.port, timeout=10)
            connection.request("GET", "/api/v2/health/live")
            assert connection.getresponse().status == 200
            connection.close()


def test_in_managed_mode_nothing_is_migrated(env: dict[str, str], tmp_path: Path) -> None:
    change("DROP SCHEMA public CASCADE")
    change("CREATE SCHEMA public")
    with service(env, tmp_path) as serving:
        response = httpx.get(f"{serving.url}/health/ready", trust_env=False)
        assert response.status_code == 503
        assert read("SELECT 1 FROM information_schema.tables WHERE table_schema = 'public'") == []


@pytest.mark.parametrize("concurrency", ["1", only_in_full("")])
def test_a_concurrency_of_one_starts_no_child(env: dict[str, str], tmp_path: Path, concurrency: str) -> None:
    with service(env | {"WEB_CONCURRENCY": concurrency}, tmp_path) as serving:
        assert serving.live()
        assert child_pids(serving.program.pid) == []


@pytest.mark.parametrize("host", ["::1", only_in_full("127.0.0.1"), only_in_full("::")])
def test_the_line_names_the_port_that_all_of_them_listen_on(env: dict[str, str], tmp_path: Path, host: str) -> None:
    with service(env, tmp_path, "--host", host) as serving:
        shown = f"[{host}]" if ":" in host else host
        assert re.search(rf"^API       http://{re.escape(shown)}:{serving.port}$", serving.program.output(), re.M)
        assert serving.port > 0
        assert serving.live()


@AS_WITH_ONE_PROCESS
def test_a_port_that_is_taken_is_one_clear_line(env: dict[str, str], tmp_path: Path) -> None:
    with service(env, tmp_path) as serving:
        port = str(serving.port)
        with program("serve", "--port", port, env=env, folder=tmp_path / "second") as second:
            assert second.wait() == 2
            assert second.output().strip().splitlines() == [
                f"vm_webapp: cannot listen on 127.0.0.1:{port}: address already in use;"
                " choose another with --host and --port"
            ]
        assert serving.live()


@pytest.mark.parametrize("value", ["x", "65", *map(only_in_full, ("0", "-1", "1.5"))])
def test_a_wrong_number_is_one_line_that_names_the_variable(tmp_path: Path, value: str) -> None:
    given = {"WEB_CONCURRENCY": value, "VM_WORKSPACE_ROOT": str(tmp_path / "workspace")}
    with program("serve", env=given, folder=tmp_path / "log") as running:
        assert running.wait() == 2
        assert running.output() == "vm_webapp: WEB_CONCURRENCY must be a whole number from 1 to 64\n"
    assert not (tmp_path / "workspace").exists()


def test_an_error_that_only_a_child_finds_is_reported_once_and_stops_all(env: dict[str, str], tmp_path: Path) -> None:
    wrong = env | {"VM_DB_URL": "postgresql://localhost/x?nonsense=1"}
    with program("serve", "--port", "0", env=wrong, folder=tmp_path / "log") as running:
        assert running.wait() == 2
        assert running.output() == "vm_webapp: VM_DB_URL is not a PostgreSQL URL that libpq understands\n"
