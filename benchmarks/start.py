"""How long a start takes, until the API answers its first request and until ``serve`` is ready; and its memory then.

The API is that of a deployment, on servers that run. ``serve`` has nothing configured: on a workspace that has been
used before, it starts PostgreSQL and Redis, looks for pending migrations, and starts a worker. The limit is the bare
handler, which connects and answers. The memory is that of ``serve`` with its worker, while there is nothing to do.
"""

from __future__ import annotations

import socket
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from statistics import median
from typing import NamedTuple

from benchmarks.bare_reads import STORED_RESPONSES
from benchmarks.drain import PYTHON, Servers, running
from benchmarks.drain import read as read_directly
from benchmarks.figures import Contender, Values
from benchmarks.memory import pss_mb
from benchmarks.post_client import TOKEN
from tests.support.deployment import managed_environment

LIVE, READY = "/api/v2/health/live", "/api/v2/health/ready"
EVERY_SECONDS = 0.01
IDLE_SECONDS = 3.0  # until its memory is read
MOST_SECONDS = 60.0


def bare(servers: Servers, starts: int) -> Values:
    """Measure the bare handler, for which both are the same."""
    read_directly(servers, STORED_RESPONSES)
    read_directly(servers, f"INSERT INTO minimal.responses VALUES ('{LIVE}', '{{}}')")
    env = {"BENCH_DB_URL": servers.database_url}
    started = _starts(servers, starts, "benchmarks.bare_reads", path=LIVE, env=env)
    return {"live_seconds": started.seconds, "ready_seconds": started.seconds, "memory_mb": started.memory_mb}


def ours(servers: Servers, starts: int) -> Values:
    """Measure the API and ``serve`` as they come."""
    managed = managed_environment(servers.database_url, servers.redis_url, servers.folder, VM_API_TOKEN=TOKEN)
    serve, local = ("vm_webapp", "serve"), {"VM_WORKSPACE_ROOT": str(servers.folder / "started")}
    ready = _starts(servers, starts, *serve, path=READY, env=local)
    live = _starts(servers, starts, *serve, path=LIVE, env=managed)
    return {"live_seconds": live.seconds, "ready_seconds": ready.seconds, "memory_mb": ready.memory_mb}


class Started(NamedTuple):
    """What a start took.

    Attributes:
        seconds: until the first answer.
        memory_mb: of the process and its children, when it has been idle for a moment.
    """

    seconds: float
    memory_mb: float


def _starts(servers: Servers, starts: int, *arguments: str, path: str, env: Mapping[str, str]) -> Started:
    """Start a program so many times; return the medians."""
    _start(servers, *arguments, path=path, env=env)  # compiles what no start before it has compiled
    each = [_start(servers, *arguments, path=path, env=env) for _ in range(starts)]
    return Started(median(one.seconds for one in each), median(one.memory_mb for one in each))


def _start(servers: Servers, *arguments: str, path: str, env: Mapping[str, str]) -> Started:
    """Start a program that serves, wait until it has answered with 200, and stop it."""
    port = _free_port()
    # As installed: compiled at the build, or by an earlier start.
    compiled = {"PYTHONDONTWRITEBYTECODE": "", "PYTHONPYCACHEPREFIX": str(servers.folder / "bytecode")}
    began = time.monotonic()
    with running(servers, [*PYTHON, *arguments, "--port", str(port)], {**compiled, **env}) as program:
        while not _is_answered(f"http://127.0.0.1:{port}{path}"):
            assert time.monotonic() < began + MOST_SECONDS, f"{path} is not answered"
            time.sleep(EVERY_SECONDS)
        seconds = time.monotonic() - began
        time.sleep(IDLE_SECONDS)
        return Started(seconds, pss_mb(program.pid))


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
