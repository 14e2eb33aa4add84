"""Commands whose output is cut off, cannot be stored, or goes to a terminal that knows few characters."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path

import pytest
from _pytest.mark import ParameterSet

from tests.support.actors import OPERATOR
from tests.support.forms import only_in_full
from tests.support.processes import ROOT, UNSET, program
from tests.support.runs import create
from vm_webapp.ops import queue_control

READER_LEFT = 141
COMMANDS: tuple[tuple[str, ...], ...] = (
    ("doctor",),
    ("doctor", "--json"),
    ("migrate", "status"),
    ("queue", "status"),
)
COMMANDS_IN_FULL: tuple[tuple[str, ...], ...] = (
    ("audit", "verify"),
    ("queue", "cancel", "--workflow", "smoke", "--dry-run"),
    ("purge", "--older-than", "90d", "--dry-run"),
)


def run(
    *arguments: str, env: Mapping[str, str], out: int = subprocess.PIPE, errors: int = subprocess.PIPE
) -> subprocess.CompletedProcess[bytes]:
    """Run a command as a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "vm_webapp", *arguments],
        env=environment(env),
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        stdout=out,
        stderr=errors,
        timeout=60,
        check=False,
    )


def in_shell(line: str, env: Mapping[str, str]) -> subprocess.CompletedProcess[bytes]:
    """Run a line of a shell, unbuffered."""
    unbuffered = {**environment(env), "PYTHONUNBUFFERED": "1"}
    return subprocess.run(line, shell=True, env=unbuffered, cwd=ROOT, capture_output=True, timeout=60, check=False)


def either(commands: Iterable[tuple[str, ...]]) -> list[ParameterSet]:
    """Return each command buffered and unbuffered: in the short form with one of the two, in turn."""
    cases = []
    for number, command in enumerate(commands):
        for unbuffered in ("", "1"):
            short = number % 2 == len(unbuffered) and command not in COMMANDS_IN_FULL
            case = pytest.param if short else only_in_full
            cases.append(case(command, unbuffered, id=" ".join((*command, unbuffered))))
    return cases


def environment(env: Mapping[str, str]) -> dict[str, str]:
    """Return the environment of this process with none of the product's variables but these."""
    return {**{name: value for name, value in os.environ.items() if name not in UNSET}, **env}


@pytest.fixture
def pipe_without_reader() -> int:
    """The writing end of a pipe that nobody reads from any more."""
    reading, writing = os.pipe()
    os.close(reading)
    return writing


@pytest.mark.parametrize(("arguments", "unbuffered"), either(COMMANDS + COMMANDS_IN_FULL))
def test_a_command_whose_reader_has_left_ends_without_a_word(
    env: dict[str, str], pipe_without_reader: int, arguments: tuple[str, ...], unbuffered: str
) -> None:
    done = run(*arguments, env={**env, "PYTHONUNBUFFERED": unbuffered}, out=pipe_without_reader)
    os.close(pipe_without_reader)
    assert (done.returncode, done.stderr) == (READER_LEFT, b"")


@pytest.mark.parametrize(("arguments", "unbuffered"), either([("--help",), ("run", "--help"), ("--version",)]))
def test_help_whose_reader_has_left_ends_without_a_word(
    env: dict[str, str], pipe_without_reader: int, arguments: tuple[str, ...], unbuffered: str
) -> None:
    done = run(*arguments, env={**env, "PYTHONUNBUFFERED": unbuffered}, out=pipe_without_reader)
    os.close(pipe_without_reader)
    # argparse itself ignores that a stream cannot be written.
    assert (done.returncode in (0, READER_LEFT), done.stderr) == (True, b"")


def test_the_sql_of_a_migration_can_be_read_from_its_beginning(env: dict[str, str]) -> None:
    done = in_shell(f"{sys.executable} -m vm_webapp migrate down --steps 4 --dry-run | head -1", env)
    assert (done.stdout.startswith(b"-- 00"), done.stderr) == (True, b"")


def test_an_error_whose_reader_has_left_ends_without_a_word(env: dict[str, str], pipe_without_reader: int) -> None:
    done = run("keys", "revoke", "nothing", env=env, out=pipe_without_reader, errors=pipe_without_reader)
    os.close(pipe_without_reader)
    assert done.returncode == READER_LEFT


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_full_disk_is_named_in_one_line(env: dict[str, str], unbuffered: str) -> None:
    with Path("/dev/full").open("wb") as full:
        done = run("doctor", "--json", env={**env, "PYTHONUNBUFFERED": unbuffered}, out=full.fileno())
    assert done.stderr.decode() == "vm_webapp: standard output cannot be written: No space left on device\n"
    assert done.returncode == 1


def test_a_key_whose_secret_cannot_be_written_is_valid_no_more(env: dict[str, str]) -> None:
    with Path("/dev/full").open("wb") as full:
        done = run("keys", "create", "unseen", env=env, out=full.fileno())
    assert done.stderr.decode() == "vm_webapp: standard output cannot be written: No space left on device\n"
    assert done.returncode == 1
    assert "unseen" not in in_shell(f"{sys.executable} -m vm_webapp keys list | grep ^active", env).stdout.decode()
    assert run("keys", "create", "unseen", env=env).returncode == 0, "its name is free"


@pytest.mark.parametrize("closed", [">&-", "2>&-", "<&- >&- 2>&-"])
def test_a_closed_stream_is_no_error(env: dict[str, str], closed: str) -> None:
    done = in_shell(f"{sys.executable} -m vm_webapp keys list {closed}", env)
    assert (done.returncode, done.stdout, b"Traceback" in done.stderr) == (0, b"", False)


@pytest.mark.parametrize("drawn", [{}, {"FORCE_COLOR": "1", "TTY_COMPATIBLE": "1", "TTY_INTERACTIVE": "1"}])
def test_a_run_whose_reader_has_left_ends_as_every_command_does(
    env: dict[str, str], folder: Path, pipe_without_reader: int, drawn: dict[str, str]
) -> None:
    local = {"VM_DB_URL": env["VM_DB_URL"], "VM_WORKSPACE_ROOT": str(folder), **drawn}
    done = run("run", "a calendar", "--workflow", "content_calendar", "--yes", env=local, out=pipe_without_reader)
    os.close(pipe_without_reader)
    assert (done.returncode, b"Traceback" in done.stderr) == (READER_LEFT, False)


@pytest.mark.parametrize("encoding", ["ascii", "koi8-r", only_in_full("latin-1"), only_in_full("cp1252")])
def test_a_stream_gets_only_characters_that_it_knows(env: dict[str, str], encoding: str) -> None:
    done = run("doctor", env={**env, "PYTHONIOENCODING": encoding, "VM_API_TOKEN": ""})
    assert b"Traceback" not in done.stderr
    assert "-> " in done.stdout.decode(encoding)


@pytest.mark.parametrize("encoding", ["ascii", only_in_full("latin-1")])
def test_a_run_writes_its_artifacts_whatever_the_terminal_can_show(
    env: dict[str, str], folder: Path, encoding: str
) -> None:
    done = run(
        *("run", "Plan für Brötchen → Büros ✓", "--workflow", "content_calendar", "--yes"),
        *("--output", str(folder / "out")),
        env={
            "PYTHONIOENCODING": encoding,
            "VM_DB_URL": env["VM_DB_URL"],
            "VM_WORKSPACE_ROOT": str(folder / "work"),
        },
    )
    assert done.returncode == 0, done.stderr
    assert "ok" in done.stdout.decode(encoding)
    texts = [path.read_text(encoding="utf-8") for path in (folder / "out").iterdir()]
    assert len(texts) == 2
    assert "Brötchen → Büros ✓" in texts[0]


def test_a_service_lives_on_when_nobody_reads_what_it_says(env: dict[str, str], folder: Path) -> None:
    with program("serve", "--no-worker", "--port", "0", env=env, folder=folder) as serving:
        serving.says("Worker ")
        assert serving.stop() == 0


def test_hints_begin_as_the_command_did(env: dict[str, str]) -> None:
    create()
    queue_control.pause_queue(reason=None, actor=OPERATOR)
    plain = run("queue", "status", env={**env, "UV_RUN_RECURSION_DEPTH": ""}).stdout.decode()
    assert f"{sys.executable} -m vm_webapp queue resume" in plain
    by_uv = run("queue", "status", env={**env, "UV_RUN_RECURSION_DEPTH": "1"}).stdout.decode()
    assert f"; uv run {Path(sys.executable).name} -m vm_webapp queue resume" in by_uv
