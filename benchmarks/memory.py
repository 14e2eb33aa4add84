"""The memory that a process and its children use, sampled while a block runs."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.processes import child_pids

EVERY_SECONDS = 0.25
PSS = re.compile(r"^Pss: +(\d+) kB", re.MULTILINE)


class Peak:
    """The largest sum so far, in MB (millions of bytes)."""

    mb = 0.0


def pss_mb(pid: int) -> float:
    """Return the proportional set size of a process and of all its children, in MB; one that ended has none."""
    # Proportional: a page that several processes share counts once over all of them.
    try:
        found = PSS.search((Path("/proc") / str(pid) / "smaps_rollup").read_text())
    except OSError:
        return 0.0
    own = int(found[1]) * 1024 / 1e6 if found else 0.0
    return own + sum(pss_mb(child) for child in child_pids(pid))


@contextmanager
def peak_of(pid: int) -> Iterator[Peak]:
    """Sample the memory of a process during the block; the peak is complete after it."""
    peak, over = Peak(), threading.Event()

    def sample() -> None:
        while not over.wait(EVERY_SECONDS):
            peak.mb = max(peak.mb, pss_mb(pid))

    sampler = threading.Thread(target=sample)
    sampler.start()
    try:
        yield peak
    finally:
        over.set()
        sampler.join()
