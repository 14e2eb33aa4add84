"""How many POST /runs are answered in a second: ours, and a bare handler with one prepared statement.

The clients are a process of their own with 32 connections that stay open. Each contender starts anew, and answers a few
hundred requests before it is measured.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable

from benchmarks.drain import PYTHON, Servers, read, running
from benchmarks.limit import MINIMAL_TABLES
from benchmarks.post_client import TOKEN
from tests.chaos.harness import NEW_RUN
from tests.support.deployment import address_of
from vm_webapp.workflows.loader import load_catalog

STORE = "INSERT INTO snapshots (digest, content) VALUES (%s, %s) ON CONFLICT DO NOTHING"


def bare(tables: str) -> Callable[[Servers, int], float]:
    """Return what measures the bare handler over the minimal tables or over our own."""

    def measure(servers: Servers, count: int) -> float:
        _empty(servers)
        # Stored with the first run of the workflow, as with the product.
        workflow = load_catalog().get(str(NEW_RUN["workflow"]))
        read(servers, STORE, workflow.digest, json.dumps(workflow.snapshot()))
        env = {"BENCH_DB_URL": servers.database_url, "BENCH_DIGEST": f"\\x{workflow.digest.hex()}"}
        with running(servers, [*PYTHON, "benchmarks.bare_api", tables], env) as program:
            program.says("listening on ")
            return _send(f"http://127.0.0.1:{program.output().split()[-1]}", count)

    return measure


def ours(*, keyed: bool) -> Callable[[Servers, int], float]:
    """Return what measures the API as it comes: one process, managed mode, a bearer token."""

    def measure(servers: Servers, count: int) -> float:
        _empty(servers)
        env = {
            "VM_DB_URL": servers.database_url,
            "VM_REDIS_URL": servers.redis_url,
            "VM_ENABLE_MANAGED_MODE": "1",
            "VM_API_TOKEN": TOKEN,
            "VM_WORKSPACE_ROOT": str(servers.folder / "workspace"),
        }
        with running(servers, [*PYTHON, "vm_webapp", "serve", "--port", "0"], env) as program:
            return _send(address_of(program), count, *(["--keyed"] if keyed else []))

    return measure


def _empty(servers: Servers) -> None:
    read(servers, MINIMAL_TABLES)
    read(servers, "TRUNCATE runs, idempotency_keys CASCADE")


def _send(base: str, count: int, *options: str) -> float:
    command = [*PYTHON, "benchmarks.post_client", base, str(count), *options]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


CONTENDERS: dict[str, Callable[[Servers, int], float]] = {
    "bare handler, minimal tables (limit)": bare("minimal"),
    "bare handler, our tables": bare("own"),
    "VM Webapp": ours(keyed=False),
    "VM Webapp, with Idempotency-Key": ours(keyed=True),
}
