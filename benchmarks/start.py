"""How long a start takes: until the API answers its first request, and until ``serve`` is ready for work.

The API is that of a deployment, on servers that run. ``serve`` has nothing configured: on a workspace that has been
used before, it starts PostgreSQL and Redis, looks for pending migrations, and starts a worker. The limit is the bare
handler, which connects and answers.
"""

from __future__ import annotations

import socket
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from statistics import median

from benchmarks.bare_reads import STORED_RESPONSES
from benchmarks.drain import Servers, running
from benchmarks.drain import read as read_directly
from benchmarks.figures import Contender, Values
from benchmarks.post_client import TOKEN
from tests.support.deployment import managed_environment

LIVE, READY = "/api/v2/health/live", "/api/v2/health/ready"
PYTHON = (sys.executable, "-m")
EVERY_SECONDS = 0.01
MOST_SECONDS = 60.0


def bare(servers: Servers, starts: int) -> Values:
    """Measure the bare handler, for which both are the same."""
    read_directly(servers, STORED_RESPONSES)
    read_directly(servers, f"INSERT INTO minimal.responses VALUES ('{LIVE}', '{{}}')")
    env = {"BENCH_DB_URL": servers.database_url}
    seconds = _median(starts, lambda: _until_answered(servers, "benchmarks.bare_reads", path=LIVE, env=env))
    return {"live_seconds": seconds, "ready_seconds": seconds}


def ours(servers: Servers, starts: int) -> Values:
    """Measure the API and ``serve`` as they come."""
    managed = managed_environment(servers.database_url, servers.redis_url, servers.folder, VM_API_TOKEN=TOKEN)
    serve, local = ("vm_webapp", "serve"), {"VM_WORKSPACE_ROOT": str(servers.folder / "started")}
    return {
        "live_seconds": _median(starts, lambda: _until_answered(servers, *serve, path=LIVE, env=managed)),
        "ready_seconds": _median(starts, lambda: _until_answered(servers, *serve, path=READY, env=local)),
    }


def _median(starts: int, start: Callable[[], float]) -> float:
    start()  # compiles what no start before it has compiled
    return median(start() for _ in range(starts))


def _until_answered(servers: Servers, *arguments: str, path: str, env: Mapping[str, str]) -> float:
    """Start a program that serves, and stop it; return the seconds until it has answered with 200."""
    port = _free_port()
    # As installed: compiled at the build, or by an earlier start.
    compiled = {"PYTHONDONTWRITEBYTECODE": "", "PYTHONPYCACHEPREFIX": str(servers.folder / "bytecode")}
    began = time.monotonic()
    with running(servers, [*PYTHON, *arguments, "--port", str(port)], {**compiled, **env}):
        while not _is_answered(f"http://127.0.0.1:{port}{path}"):
            assert time.monotonic() < began + MOST_SECONDS, f"{path} is not answered"
            time.sleep(EVERY_SECONDS)
        return time.monotonic() - began


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port: int = free.getsockname()[1]
        return port


def _is_answered(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=MOST_SECONDS):
            return True
    except (OSError, urllib.error.HTTPError):
        return False


CONTENDERS: dict[str, Contender] = {"bare handler (limit)": bare, "VM Webapp": ours}
