"""A machine like the one that the platform builds for a service: the repository's files, a Python, nothing else."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.deploy.blueprint import ROOT
from tests.support.processes import Program

# The variables through which this machine reaches a package index; no others are passed on.
REACHES_AN_INDEX = (
    "PIP_",
    "UV_INDEX",
    "UV_DEFAULT_INDEX",
    "UV_FIND_LINKS",
    "UV_CACHE_DIR",
    "SSL_",
    "HTTP",
    "http",
    "NO_",
)
NO_INDEX = ("dns error", "NewConnectionError", "Failed to establish a new connection", "Temporary failure in name")


class Machine:
    """A folder with the repository in it and the virtual environment that the platform activates.

    Args:
        folder: where to create it.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for name in _files():
            target = folder / name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, target)
        # The tests run in a virtual environment; this one is made from the Python below it.
        python = getattr(sys, "_base_executable", sys.executable)
        subprocess.run([python, "-m", "venv", folder / ".venv"], check=True, capture_output=True)

    def run(self, command: str, env: Mapping[str, str]) -> str:
        """Run a command as the platform would and return its output; it must succeed."""
        done = subprocess.run(
            self._command(command, env), capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False
        )
        output = done.stdout + done.stderr
        if done.returncode and any(text in output for text in NO_INDEX):
            pytest.skip("there is no package index to install from")
        assert done.returncode == 0, output
        return output

    @contextmanager
    def start(self, command: str, env: Mapping[str, str], log: Path) -> Iterator[Program]:
        """Keep a command running for the block."""
        running = Program(self._command(command, env), {}, log)
        try:
            yield running
        finally:
            if running.process.poll() is None:
                os.killpg(running.pid, signal.SIGKILL)
                running.process.wait(10)

    def _command(self, command: str, env: Mapping[str, str]) -> list[str]:
        venv = self.folder / ".venv"
        index = {name: value for name, value in os.environ.items() if name.startswith(REACHES_AN_INDEX)}
        basic = {"HOME": os.environ.get("HOME", "/"), "PATH": f"{venv}/bin:/usr/local/bin:/usr/bin:/bin"}
        given = index | basic | {"VIRTUAL_ENV": str(venv), "PYTHONUNBUFFERED": "1", **env}
        pairs = [f"{name}={value}" for name, value in given.items()]
        return ["env", "-i", "-C", str(self.folder), *pairs, "bash", "-c", command]


def _files() -> list[str]:
    """Return the files of the repository, including those not yet committed."""
    try:
        listed = subprocess.run(
            ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("this is not a git checkout")
    return [name for name in listed.stdout.split("\0") if name and (ROOT / name).is_file()]
