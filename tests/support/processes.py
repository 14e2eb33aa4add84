"""Starts the product's commands as processes, as an operator does, and ends them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from tests.support.waiting import eventually

ROOT = Path(__file__).resolve().parents[2]
UNSET = (
    *("RENDER_API_KEY", "VM_AUTOSCALE_SERVICE_ID"),
    *("KIMI_API_KEY", "VM_DB_URL", "VM_REDIS_URL", "VM_API_TOKEN", "VM_ENABLE_MANAGED_MODE", "APP_ENV", "PORT"),
    *("WEB_CONCURRENCY", "VM_DB_DIRECT_URL", "VM_API_CONNECTIONS", "VM_WORKER_CONNECTIONS"),
    *("VM_TRUSTED_PROXIES", "RENDER", "OTEL_EXPORTER_OTLP_ENDPOINT", "JUDOSCALE_URL"),
)


def clean_environment() -> dict[str, str]:
    """Return this process's environment without the product's variables."""
    return {name: value for name, value in os.environ.items() if name not in UNSET}


class Program:
    """A process whose output goes to files."""

    def __init__(self, command: list[str], env: Mapping[str, str], folder: Path, build: Path = ROOT) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.stdout, self.stderr = folder / "stdout", folder / "stderr"
        clean = clean_environment()
        with self.stdout.open("wb") as out, self.stderr.open("wb") as err:
            self.process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                cwd=build,
                env={**clean, "PYTHONUNBUFFERED": "1", **env},
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        """The process id."""
        return self.process.pid

    def output(self) -> str:
        """Return the output so far, first stdout, then stderr."""
        return self.stdout.read_text(errors="replace") + self.stderr.read_text(errors="replace")

    def says(self, text: str, *, seconds: float = 20.0) -> None:
        """Wait until the output contains a text."""
        eventually(lambda: text in self.output() or self._died(), f"{text!r} in the output", seconds=seconds)
        assert text in self.output(), self.output()

    def signal(self, number: int) -> None:
        """Send a signal to this process, not to its children."""
        os.kill(self.pid, number)

    def kill(self) -> None:
        """Kill the process, and wait until it has ended."""
        self.process.kill()
        self.process.wait(10)

    def stop(self, *, seconds: float = 20.0) -> int:
        """Send SIGTERM, and wait for the end; return the exit code."""
        self.signal(signal.SIGTERM)
        return self.wait(seconds=seconds)

    def wait(self, *, seconds: float = 20.0) -> int:
        """Wait for the end; return the exit code."""
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"did not end within {seconds:g} s:\n{self.output()}") from None

    def _died(self) -> bool:
        return self.process.poll() is not None


@contextmanager
def program(*arguments: str, env: Mapping[str, str], folder: Path, build: Path = ROOT) -> Iterator[Program]:
    """Run a build's ``python -m vm_webapp`` with these arguments during the block, then kill it if it still runs."""
    running = Program([sys.executable, "-m", "vm_webapp", *arguments], env, folder, build)
    try:
        yield running
    finally:
        if running.process.poll() is None:
            running.process.send_signal(signal.SIGCONT)
            running.kill()


@contextmanager
def frozen(pids: Iterable[int]) -> Iterator[None]:
    """Stop processes (SIGSTOP) during the block: they keep their locks and connections, and do not respond."""
    stopped = list(pids)
    for pid in stopped:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in stopped:
            os.kill(pid, signal.SIGCONT)


def child_pids(pid: int) -> list[int]:
    """Return the process ids of the children of a process."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and int((entry / "stat").read_text().rsplit(")", 1)[1].split()[1]) == pid:
                found.append(int(entry.name))
        except (OSError, IndexError):
            continue
    return found


def is_running(pid: int) -> bool:
    """Return whether a process exists and is not a zombie."""
    try:
        return (Path("/proc") / str(pid) / "stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False
