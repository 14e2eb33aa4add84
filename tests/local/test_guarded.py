"""A server that a test started ends with the test, even if the test is killed."""

from __future__ import annotations

import subprocess
import sys

from tests.support.processes import ROOT, is_running
from tests.support.waiting import eventually

# A test process that starts a guarded server, which starts a child as uv does, and says the child's process id.
TESTS = """
import os, subprocess, sys
server = "import subprocess, sys; child = subprocess.Popen(['sleep', '60']); print(child.pid, flush=True); child.wait()"
command = [sys.executable, "-m", "tests.servers.guarded", str(os.getpid()), sys.executable, "-c", server]
subprocess.Popen(command, start_new_session=True).wait()
"""


def test_a_server_ends_with_the_process_that_started_it() -> None:
    with subprocess.Popen([sys.executable, "-c", TESTS], stdout=subprocess.PIPE, text=True, cwd=ROOT) as tests:
        assert tests.stdout is not None
        child = int(tests.stdout.readline())
        assert is_running(child)
        tests.kill()
    eventually(lambda: not is_running(child), "the server's child has ended")
