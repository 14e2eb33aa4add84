"""Which parents a process records, and when it notices that one has ended; with real processes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from tests.support.processes import ROOT
from tests.support.waiting import eventually

WATCH = """
import sys, time
from pathlib import Path
from vm_webapp.parents import record_parents
found, notes = record_parents(), Path(sys.argv[1])
def write(name, text):  # renamed, so that nobody reads half a note
    (notes / "part").write_text(text)
    (notes / "part").rename(notes / name)
write("recorded", ",".join(parent.command for parent in found.recorded))
while not (notes / "stop").exists() and not found.find_ended():
    time.sleep(0.02)
write("ended", found.find_ended())
"""
# A daemon's parent leaves the session and ends, as in start-stop-daemon and python-daemon.
DOUBLE_FORK = f"""
import os, sys
if os.fork(): os.waitpid(-1, 0); sys.exit()
os.setsid()
if os.fork(): os._exit(0)
os.execv(sys.executable, [sys.executable, "-c", {WATCH!r}, sys.argv[1]])
"""


@pytest.fixture
def notes(tmp_path: Path) -> Path:
    """A folder with what the watching process found, and a stop sign for it; it ends by itself after that."""
    return tmp_path


def note(notes: Path, name: str) -> str:
    """Return what the process noted."""
    eventually((notes / name).exists, f"the note {name}")
    return (notes / name).read_text()


@contextmanager
def start(*command: str) -> Iterator[subprocess.Popen[bytes]]:
    """Start a command in a session of its own, as a platform does, for the block; then kill what is left of it."""
    started = subprocess.Popen(command, cwd=ROOT, start_new_session=True, stdin=subprocess.DEVNULL)
    try:
        yield started
    finally:
        with suppress(ProcessLookupError):
            os.killpg(started.pid, signal.SIGKILL)
        started.wait(10)


def watching(notes: Path, *, before: str = "") -> str:
    """Return the shell's words that start the watching process, with a statement before its own."""
    (notes / "watch.py").write_text(before + WATCH)
    return f"PYTHONPATH={ROOT} {sys.executable} {notes / 'watch.py'} {notes}"


def test_the_chain_ends_with_the_session_and_every_link_counts(notes: Path) -> None:
    # Three shells below each other; the innermost and the outermost stay, and the one between them dies.
    line = f"dash -c '{watching(notes)}; exit 0'; exit 0"
    with start("dash", "-c", f'dash -c "{line}"; exit 0') as outer:
        assert note(notes, "recorded") == "dash,dash,dash"
        between = eventually(lambda: children_of(outer.pid), "the shell between")[0]
        os.kill(between, signal.SIGKILL)
        assert note(notes, "ended") == f"dash (pid {between})"


def test_a_daemon_that_left_its_parents_records_none_of_them(notes: Path) -> None:
    with start(sys.executable, "-c", DOUBLE_FORK, str(notes)) as starter:
        assert starter.wait(10) == 0
        assert note(notes, "recorded") == ""
        (notes / "stop").touch()
        assert note(notes, "ended") == ""


def test_a_leader_of_a_session_records_no_parents(notes: Path) -> None:
    with start(sys.executable, "-c", WATCH, str(notes)):
        assert note(notes, "recorded") == ""
        (notes / "stop").touch()


def test_a_command_with_brackets_and_spaces_in_its_name_is_read(notes: Path) -> None:
    odd = notes / "a) b (c"
    odd.symlink_to("/usr/bin/dash")
    with start(str(odd), "-c", f"{watching(notes)}; exit 0") as shell:
        assert note(notes, "recorded") == "a) b (c"
        shell.kill()
        assert note(notes, "ended") == f"a) b (c (pid {shell.pid})"


def test_nohup_counts_only_where_the_shell_itself_heeds_hangups(notes: Path) -> None:
    with start("nohup", "dash", "-c", f"{watching(notes)}; exit 0"):
        assert note(notes, "recorded") == "dash"
        (notes / "stop").touch()


@pytest.mark.parametrize("platform", ["darwin", "win32", "freebsd14"])
def test_elsewhere_than_on_linux_nothing_is_recorded(notes: Path, platform: str) -> None:
    elsewhere = f"import sys; sys.platform = {platform!r}"
    with start("dash", "-c", f"{watching(notes, before=elsewhere)}; exit 0"):
        assert note(notes, "recorded") == ""
        (notes / "stop").touch()


@pytest.mark.parametrize("odd", ["Name:\tsh\n", ""], ids=["no mask", "empty"])
def test_a_status_without_the_ignored_signals_stops_no_start(notes: Path, odd: str) -> None:
    (notes / "status").write_text(odd)
    # Stands for the /proc of a sandbox that has less than Linux in it.
    before = (
        "import pathlib; read = pathlib.Path.read_text; pathlib.Path.read_text = lambda path, **how:"
        f" read(pathlib.Path({str(notes / 'status')!r}) if path.name == 'status' else path, **how)"
    )
    with start("dash", "-c", f"{watching(notes, before=before)}; exit 0"):
        assert note(notes, "recorded") == "dash"
        (notes / "stop").touch()


def test_a_proc_of_another_namespace_records_nothing(notes: Path) -> None:
    # There, the entry with this process's number is some other process.
    before = f"import os; os.getpid = lambda: {os.getpid()}"
    with start("dash", "-c", f"{watching(notes, before=before)}; exit 0"):
        assert note(notes, "recorded") == ""
        (notes / "stop").touch()


def children_of(pid: int) -> list[int]:
    """Return the process ids of the children of a process."""
    return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
