"""How many reads are answered in a second: ours, and a bare handler with one prepared statement for the same bytes.

There are 1,000 finished runs and 25 queued ones, and no worker: the first page has both. Each read is measured on its
own, by the clients of ``get_client``, on a server that starts anew and has answered a few hundred of them.
"""

from __future__ import annotations

import json
import subprocess
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from typing import Any

import psycopg2

from benchmarks.bare_reads import STORED_RESPONSES
from benchmarks.drain import PYTHON, Servers, running
from benchmarks.drain import read as read_directly
from benchmarks.figures import Contender, Values
from benchmarks.history import add_finished_runs
from benchmarks.post_client import TOKEN
from tests.support.deployment import address_of, managed_environment
from tests.support.runs import create, lost_hints

FINISHED, QUEUED = 1000, 25
LIST, QUEUE = "/api/v2/runs?limit=50", "/api/v2/queue"


def bare(servers: Servers, count: int) -> Values:
    """Measure the bare handler; it answers with what the API has answered."""
    _fill(servers)
    with _api(servers) as base:
        found = _responses(base)
    read_directly(servers, STORED_RESPONSES)
    with closing(psycopg2.connect(servers.database_url)) as session, session, session.cursor() as sql:
        sql.executemany("INSERT INTO minimal.responses VALUES (%s, %s)", found.items())
    env = {"BENCH_DB_URL": servers.database_url}
    with running(servers, [*PYTHON, "benchmarks.bare_reads"], env) as program:
        program.says("listening on ")
        return _rates(f"http://127.0.0.1:{program.output().split()[-1]}", list(found), count)


def ours(servers: Servers, count: int) -> Values:
    """Measure the API as it comes: one process, managed mode, a bearer token."""
    _fill(servers)
    with _api(servers) as base:
        return _rates(base, list(_responses(base)), count)


def _fill(servers: Servers) -> None:
    read_directly(servers, "TRUNCATE runs CASCADE")
    add_finished_runs(servers.database_url, FINISHED)
    with lost_hints():
        for _ in range(QUEUED):
            create("plan_90d", "A plan for a bakery that delivers by bicycle")


def _responses(base: str) -> Mapping[str, str]:
    """Return what the API answers to each read, by its path: the list, the queue, and each run of the list."""
    found = {path: _get(base, path) for path in (LIST, QUEUE)}
    runs: list[dict[str, Any]] = json.loads(found[LIST])["items"]
    return found | {path: _get(base, path) for path in (f"/api/v2/runs/{run['id']}" for run in runs)}


def _get(base: str, path: str) -> str:
    request = urllib.request.Request(base + path, headers={"Authorization": f"Bearer {TOKEN}"})
    with urllib.request.urlopen(request) as response:
        text: str = response.read().decode()
        return text


def _rates(base: str, paths: Sequence[str], count: int) -> Values:
    runs = [path for path in paths if path not in (LIST, QUEUE)]
    return {
        "run_per_second": _send(base, count, *runs),
        "list_per_second": _send(base, max(count // 5, 1), LIST),
        "queue_per_second": _send(base, count, QUEUE),
    }


@contextmanager
def _api(servers: Servers) -> Iterator[str]:
    env = managed_environment(servers.database_url, servers.redis_url, servers.folder, VM_API_TOKEN=TOKEN)
    with running(servers, [*PYTHON, "vm_webapp", "serve", "--port", "0"], env) as program:
        yield address_of(program)


def _send(base: str, count: int, *paths: str) -> float:
    command = [*PYTHON, "benchmarks.get_client", base, str(count), *paths]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


CONTENDERS: dict[str, Contender] = {"bare handler, one statement (limit)": bare, "VM Webapp": ours}
