"""What open event streams cost: memory of the API process with many of them, each following a run of its own.

uv run python -m benchmarks.streams [--streams 500]
"""

from __future__ import annotations

import argparse
import asyncio
import re
import tempfile
import time
from pathlib import Path

import aiohttp

from tests.support.processes import Program, program

RUN = {"workflow": "content_calendar", "request": "a calendar for a bakery"}


def resident_mb(pid: int) -> float:
    """Return the resident memory of a process, in MB."""
    status = Path(f"/proc/{pid}/status").read_text()
    found = re.search(r"VmRSS:\s+(\d+) kB", status)
    assert found is not None
    return int(found[1]) / 1024


async def measure(api: Program, base: str, streams: int) -> None:
    """Open the streams, let every run move once, and say what it took."""
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(f"{base}/", connector=connector) as session:

        async def create() -> str:
            async with session.post("runs", json=RUN) as response:
                return str((await response.json())["id"])

        runs = [await create() for _ in range(streams)]
        before = resident_mb(api.pid)
        opened = [await session.get(f"runs/{run}/events", headers={"Accept": "text/event-stream"}) for run in runs]
        for response in opened:
            await response.content.readuntil(b"stage.queued")
        during = resident_mb(api.pid)
        print(f"{streams} streams: {before:.0f} MB before, {during:.0f} MB with them: {during - before:.0f} MB")
        began = time.monotonic()
        arrivals: list[float] = []

        async def end(run: str, response: aiohttp.ClientResponse) -> None:
            sent = time.monotonic()
            async with session.post(f"runs/{run}/cancel", json={}) as canceled:
                assert canceled.status == 200
            await response.content.readuntil(b"run.canceled")
            arrivals.append(time.monotonic() - sent)

        for run, response in zip(runs, opened, strict=True):
            await end(run, response)
        arrivals.sort()
        took = time.monotonic() - began
        print(
            f"canceled one after another in {took:.1f} s; the event came {1000 * arrivals[len(arrivals) // 2]:.0f} ms"
            f" after the request at the median, {1000 * arrivals[int(len(arrivals) * 0.99)]:.0f} ms at p99"
        )


def main() -> None:
    """Measure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--streams", type=int, default=500)
    streams = parser.parse_args().streams
    with tempfile.TemporaryDirectory(prefix="vm-bench-") as folder:
        env = {"VM_WORKSPACE_ROOT": f"{folder}/workspace"}
        with program("serve", "--no-worker", "--port", "0", env=env, folder=Path(folder) / "log") as api:
            api.says("API ", seconds=60)
            found = re.search(r"API\s+(http://\S+)", api.output())
            assert found is not None
            asyncio.run(measure(api, f"{found[1]}/api/v2", streams))


if __name__ == "__main__":
    main()
