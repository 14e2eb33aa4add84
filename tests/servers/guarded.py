"""Runs a command for as long as a process lives: ``python -m tests.servers.guarded PID COMMAND...``.

Tests that are killed cannot end the servers that they started, and uv does not end its children when it is killed.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time


def run_while_alive(parent: int, command: list[str]) -> int:
    """Run a command; return its exit code. When the parent has ended, kill this process's whole group."""
    with subprocess.Popen(command) as running:
        while running.poll() is None:
            if os.getppid() != parent:
                os.killpg(0, signal.SIGKILL)
            time.sleep(0.5)
    return running.returncode


if __name__ == "__main__":
    sys.exit(run_while_alive(int(sys.argv[1]), sys.argv[2:]))
