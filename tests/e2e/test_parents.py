"""The shell of a start command dies: its service drains. A service that was put into the background lives on."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx
import pexpect
import pytest

from actors import connected
from tests.deploy.runbook import start_command
from tests.fakes.behaviours import Behaviour, delayed
from tests.fakes.model_server import ModelServer
from tests.support.deployment import address_of, managed_environment
from tests.support.forms import only_in_full
from tests.support.processes import ROOT, UNSET, Program, is_running
from tests.support.runs import create, read, wait_until_still
from tests.support.waiting import eventually
from vm_webapp.runs import queries

WORKER, API = start_command("vm-webapp-worker"), start_command("vm-webapp-api").replace("$PORT", "0")


@pytest.fixture
def env(database: str, redis_url: str, model: ModelServer, tmp_path: Path) -> Iterator[dict[str, str]]:
    """The environment of a service in managed mode; this process sends hints to the same Redis."""
    here = {"KIMI_API_KEY": "sk-test-key", "KIMI_BASE_URL": model.base_url, "UV_NO_SYNC": "1"}
    with connected(redis_url):
        yield managed_environment(database, redis_url, tmp_path, **here)


@contextmanager
def started(shell: str, line: str, env: Mapping[str, str], folder: Path) -> Iterator[Program]:
    """Start a line by a shell without a terminal, as a platform does, for the block."""
    running = Program([shell, "-c", line], env, folder)
    try:
        yield running
    finally:
        with suppress(ProcessLookupError):
            os.killpg(running.pid, signal.SIGKILL)
        running.process.wait(10)


@contextmanager
def terminal(shell: str, env: Mapping[str, str], folder: Path) -> Iterator[pexpect.spawn[str]]:
    """Open a terminal with an interactive shell for the block."""
    folder.mkdir(exist_ok=True)
    clean = {name: value for name, value in os.environ.items() if name not in UNSET}
    arguments = ["--norc", "-i"] if shell == "bash" else ["-i"]
    typed = pexpect.spawn(shell, arguments, cwd=str(ROOT), env={**clean, **env}, encoding="utf-8")
    try:
        yield typed
    finally:
        typed.close(force=True)


@contextmanager
def killed_at_the_end() -> Iterator[None]:
    """Kill the workers that live after the block."""
    try:
        yield
    finally:
        for worker in read("SELECT pid FROM worker_heartbeats WHERE state <> 'stopped'"):
            with suppress(ProcessLookupError):
                os.kill(worker["pid"], signal.SIGKILL)


def state() -> str | None:
    """Return the state in the worker's heartbeat, None before the first one."""
    return next((str(row["state"]) for row in read("SELECT state FROM worker_heartbeats")), None)


def wait_until_working() -> int:
    """Wait until the worker works; return its process id."""
    eventually(lambda: state() == "working", "the worker works", seconds=40)
    return int(read("SELECT pid FROM worker_heartbeats")[0]["pid"])


def assert_lives_on() -> None:
    """Wait until the worker has ticked for four seconds more; it must then execute a run, and end when it is told."""
    (began,) = read("SELECT now() AS at, pid FROM worker_heartbeats")
    ticks = "SELECT 1 AS found FROM worker_heartbeats WHERE last_tick_at > %(at)s + interval '4 seconds'"
    eventually(lambda: read(ticks, at=began["at"]) or state() != "working", "the worker ticks on")
    assert state() == "working"
    assert wait_until_still(create("smoke").run.id).status == "completed"
    os.kill(began["pid"], signal.SIGTERM)
    eventually(lambda: not is_running(began["pid"]), "it ends")
    assert state() == "stopped"


@pytest.mark.parametrize(
    ("shell", "line"),
    [
        pytest.param("dash", "{}; exit $?", id="dash: a list"),
        only_in_full("bash", "{} & wait", id="bash: a job"),
        only_in_full("dash", "{}", id="dash: the command alone"),
        only_in_full("bash", "{}", id="bash: the command alone"),
        only_in_full("bash", "{}; exit $?", id="bash: a list"),
        only_in_full("dash", "{} & wait", id="dash: a job"),
    ],
)
def test_a_worker_drains_when_the_shell_of_its_start_command_gets_sigterm(
    env: dict[str, str], model: ModelServer, tmp_path: Path, shell: str, line: str
) -> None:
    model.enqueue(delayed(3))
    with started(shell, line.format(WORKER), env, tmp_path / "log") as running:
        run_id = create("content_calendar").run.id
        model.wait_until(lambda server: server.in_flight == 1, seconds=40)
        (worker,) = read("SELECT pid FROM worker_heartbeats")
        running.signal(signal.SIGTERM)
        eventually(lambda: state() == "stopped", "it stops")
        eventually(lambda: not is_running(worker["pid"]), "its process ends")
    assert [stage.status for stage in queries.get_run(run_id).stages] == ["completed", "queued"]
    assert "Traceback" not in running.output()


def test_a_worker_drains_when_uv_is_killed(env: dict[str, str], tmp_path: Path) -> None:
    with started("dash", f"{WORKER}; exit $?", env, tmp_path / "log") as running:
        worker = wait_until_working()
        (uv,) = parents_of(worker, until=running.pid)
        os.kill(uv, signal.SIGKILL)
        eventually(lambda: not is_running(worker), "its process ends")
    assert state() == "stopped"
    assert f"uv (pid {uv})" in running.output()


def test_a_shell_that_dies_during_the_drain_does_not_cut_it_short(
    env: dict[str, str], model: ModelServer, tmp_path: Path
) -> None:
    model.enqueue(Behaviour(delay=6))
    with started("dash", f"{WORKER}; exit $?", env, tmp_path / "log") as running:
        run_id = create("content_calendar").run.id
        model.wait_until(lambda server: server.in_flight == 1, seconds=40)
        (worker,) = read("SELECT pid FROM worker_heartbeats")
        os.kill(worker["pid"], signal.SIGTERM)
        began = time.monotonic()
        # A second SIGTERM would end the worker at once from here on.
        eventually(lambda: time.monotonic() - began > 2.2, "two seconds have passed")
        running.kill()
        eventually(lambda: state() == "stopped", "it stops")
    assert [stage.status for stage in queries.get_run(run_id).stages] == ["completed", "queued"]


@pytest.mark.parametrize(
    ("shell", "processes"),
    [("dash", "2"), only_in_full("bash", "1"), only_in_full("dash", "1"), only_in_full("bash", "2")],
)
def test_an_api_drains_when_the_shell_of_its_start_command_gets_sigterm(
    env: dict[str, str], tmp_path: Path, shell: str, processes: str
) -> None:
    given = env | {"WEB_CONCURRENCY": processes}
    with started(shell, f"{API}; exit $?", given, tmp_path / "log") as running:
        live = f"{address_of(running)}/api/v2/health/live".replace("0.0.0.0", "127.0.0.1")
        assert httpx.get(live, trust_env=False).status_code == 200
        running.signal(signal.SIGTERM)
        running.wait()
        eventually(lambda: not group_exists(running.pid), "every process ends")
    assert "stopping …" in running.output()
    assert "Traceback" not in running.output()


@pytest.mark.parametrize(
    ("shell", "line", "end"),
    [
        pytest.param("bash", "{} >{} 2>&1 &", "exit", id="bash: exit"),
        pytest.param("dash", "nohup {} >{} 2>&1 &", "hangup", id="dash: nohup and hangup"),
        only_in_full("dash", "{} >{} 2>&1 &", "exit", id="dash: exit"),
        only_in_full("bash", "nohup {} >{} 2>&1 &", "hangup", id="bash: nohup and hangup"),
    ],
)
def test_a_worker_in_the_background_of_a_terminal_outlives_its_shell(
    env: dict[str, str], tmp_path: Path, shell: str, line: str, end: str
) -> None:
    with killed_at_the_end():
        with terminal(shell, env, tmp_path) as typed:
            typed.sendline(line.format(WORKER, tmp_path / "log"))
            wait_until_working()
            if end == "exit":
                typed.sendline("exit")
                # Not EOF: the worker's standard input is the terminal, and keeps it open.
                eventually(lambda: not typed.isalive(), "the shell ends")
        assert_lives_on()


@pytest.mark.only_in_full
@pytest.mark.parametrize("shell", ["dash", "bash"])
def test_a_worker_outlives_a_script_of_a_terminal_that_ends(env: dict[str, str], tmp_path: Path, shell: str) -> None:
    script, go = tmp_path / "script", tmp_path / "go"
    script.write_text(
        f"{WORKER} >{tmp_path / 'log'} 2>&1 &\nuntil [ -e {go} ]; do sleep 0.1; done\necho script'-'ended"
    )
    with killed_at_the_end(), terminal(shell, env, tmp_path) as typed:
        typed.sendline(f"{shell} {script}")
        wait_until_working()
        go.touch()
        typed.expect_exact("script-ended")
        assert_lives_on()


@pytest.mark.parametrize(
    ("shell", "by"),
    [("dash", "nohup"), only_in_full("bash", "setsid"), only_in_full("bash", "nohup"), only_in_full("dash", "setsid")],
)
def test_without_a_terminal_a_worker_outlives_its_shell_where_it_was_asked_to(
    env: dict[str, str], tmp_path: Path, shell: str, by: str
) -> None:
    with killed_at_the_end(), started(shell, f"{by} {WORKER} & wait", env, tmp_path / "log") as running:
        wait_until_working()
        running.kill()
        assert_lives_on()


def test_outside_managed_mode_a_worker_outlives_its_shell(env: dict[str, str], tmp_path: Path) -> None:
    given = env | {"APP_ENV": "local", "VM_ENABLE_MANAGED_MODE": "false"}
    with killed_at_the_end(), started("dash", f"{WORKER}; exit $?", given, tmp_path / "log") as running:
        wait_until_working()
        running.kill()
        assert_lives_on()


def parents_of(pid: int, *, until: int) -> list[int]:
    """Return the process ids of the parents between a process and one of its ancestors."""
    found: list[int] = []
    while (pid := int(Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[1])) != until:
        found.append(pid)
    return found


def group_exists(group: int) -> bool:
    """Return whether a process group has members."""
    with suppress(ProcessLookupError):
        os.killpg(group, 0)
        return True
    return False
