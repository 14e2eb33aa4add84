"""The memory of a process is that of its children as well, and its peak is kept."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from benchmarks.memory import peak_of, pss_mb
from tests.support.waiting import eventually

MB = 60
# A parent that allocates nothing, and a child that does.
PARENT = f"""
import subprocess, sys
child = "data = b'x' * {MB}_000_000; print('allocated', flush=True); input()"
subprocess.run([sys.executable, "-c", child])
"""

pytestmark = pytest.mark.skipif(not os.path.exists("/proc/self/smaps_rollup"), reason="the kernel does not count it")


def test_the_memory_of_children_counts() -> None:
    command = [sys.executable, "-c", PARENT]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        assert parent.stdout.readline() == b"allocated\n"
        with peak_of(parent.pid) as peak:
            assert pss_mb(parent.pid) >= MB
            eventually(lambda: peak.mb >= MB, "the peak was sampled")
            parent.communicate(b"\n")
    assert MB <= peak.mb < MB + 60


def test_a_process_that_has_ended_has_none() -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        process.wait()
    assert pss_mb(process.pid) == 0
