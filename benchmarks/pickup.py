"""How long a new run waits for an idle worker: from the commit of POST /runs to the statement that claims it.

One run at a time. PostgreSQL notes when each transaction commits (``track_commit_timestamp``), so both ends are of the
same clock. The limit is a bare handler that notifies a loop by hand, which listens.
"""

from __future__ import annotations

import http.client
import json
import random
import time
from urllib.parse import urlsplit

from benchmarks.drain import PYTHON, Servers, running
from benchmarks.drain import read as read_directly
from benchmarks.figures import Contender, Values
from benchmarks.limit import MINIMAL_TABLES
from benchmarks.post_client import TOKEN
from tests.chaos.harness import NEW_RUN, wait_for_workers
from tests.chaos.ledger import quantile
from tests.support.deployment import address_of, managed_environment
from tests.support.runs import read
from tests.support.waiting import eventually

WARM_UP = 10
SERVER_SETTINGS = {"track_commit_timestamp": "on"}


def by_hand(servers: Servers, runs: int) -> Values:
    """Return the times of the loop by hand over minimal tables: the limit."""
    read_directly(servers, MINIMAL_TABLES)
    env = {"BENCH_DB_URL": servers.database_url, "BENCH_DIGEST": ""}
    with (
        running(servers, [*PYTHON, "benchmarks.pickup_by_hand", servers.database_url]) as loop,
        running(servers, [*PYTHON, "benchmarks.bare_api", "notifying"], env) as api,
    ):
        loop.says("listening")
        api.says("listening on ")
        _post_one_by_one(f"http://127.0.0.1:{api.output().split()[-1]}", "minimal.", runs)
    return _waited("minimal.")


def ours(servers: Servers, runs: int) -> Values:
    """Return the times of one API and one worker, in managed mode and all else as they come."""
    read_directly(servers, "TRUNCATE runs CASCADE")
    env = managed_environment(servers.database_url, servers.redis_url, servers.folder, VM_API_TOKEN=TOKEN)
    with (
        running(servers, [*PYTHON, "benchmarks.instant_worker"], env),
        running(servers, [*PYTHON, "vm_webapp", "serve", "--port", "0"], env) as api,
    ):
        base = address_of(api)
        wait_for_workers(1)
        _post_one_by_one(base, "", runs)
    return _waited("")


def _post_one_by_one(base: str, schema: str, runs: int) -> None:
    """Create a run, wait until it has ended, and the next one a while later, at no fixed distance."""
    dice, address = random.Random(7), urlsplit(base)
    client = http.client.HTTPConnection(str(address.hostname), address.port)
    head = {"Authorization": f"Bearer {TOKEN}", "Content-Type": "application/json"}
    for _ in range(runs + WARM_UP):
        client.request("POST", "/api/v2/runs", json.dumps(NEW_RUN), head)
        response = client.getresponse()
        assert response.status == 201, response.read()
        run = json.loads(response.read())["id"]
        sql = f"SELECT 1 FROM {schema}runs WHERE id = %(run)s AND finished_at IS NOT NULL"
        eventually(lambda: read(sql, run=run), f"run {run} has ended", seconds=60)  # noqa: B023 - called in the loop
        time.sleep(dice.uniform(0.02, 0.08))
    client.close()


def _waited(schema: str) -> Values:
    found = read(
        f"""
        SELECT extract(epoch FROM r.started_at - pg_xact_commit_timestamp(e.xmin))::float8 * 1000 AS ms
          FROM {schema}runs r JOIN {schema}events e ON e.run_id = r.id AND e.type = 'run.created' ORDER BY e.id
        """
    )
    waits = sorted(row["ms"] for row in found[WARM_UP:])
    return {"p50_ms": quantile(waits, 0.5), "p95_ms": quantile(waits, 0.95)}


CONTENDERS: dict[str, Contender] = {"by hand, NOTIFY, minimal tables (limit)": by_hand, "VM Webapp": ours}
