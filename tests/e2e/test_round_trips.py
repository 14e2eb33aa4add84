"""How many round trips to PostgreSQL, and commits, a stage and an idle second cost, counted on the wire."""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
import redis

from tests.fakes.behaviours import delayed
from tests.fakes.model_server import ModelServer
from tests.support.deployment import address_of, managed_environment
from tests.support.processes import program
from tests.support.runs import CATALOG, create, lost_hints, read, wait_until_still
from tests.support.statements import Query, Traffic, counted
from tests.support.waiting import eventually

RUNS = 16
POLL_OR_NEW_CONNECTION = r"EXECUTE \w+ \(\d+, 'kimi'|PREPARE|SELECT pg_backend_pid"
PUBLISHING = r"\s*(INSERT INTO|UPDATE) process_metrics"
# What holds now. A run of three stages: each is finished, and the next one claimed, by one statement that commits by
# itself. The claims of first stages are not counted: one poll makes many.
ROUND_TRIPS_OF_A_RUN = 3
COMMITS_OF_A_RUN = 3
# Of a second: a process publishes its metrics once in five seconds, and once in ten if nothing has changed.
IDLE_PUBLISHING = 0.2
# Of a second: two polls, the heartbeat, and now and then a look for expired leases, spent budgets and what is to be
# sealed, each one statement.
IDLE_WORKER = 3.9 + IDLE_PUBLISHING
# Of a second: one decision on the number of workers in five, which takes the lease, reads the fleet, the work that is
# due and the rest, and is stored, in one transaction.
IDLE_DECIDING = 0.8
# Of a second: one statement that reads what readiness says.
IDLE_API = 1 + IDLE_PUBLISHING + IDLE_DECIDING
IDLE_API_COMMITS = 1 + IDLE_PUBLISHING + 0.2
# Of a second, for both: what a pair may cost, however it is divided.
IDLE_PAIR = 6.0
# Of a second: two waits for hints; presence, which is announced and read every three seconds; readiness' write.
IDLE_COMMANDS = 5.0
RIGHTS = 30  # commands that try the rights of the Redis user, once in thirty seconds
IDLE_SECONDS = 4.0


@dataclass(frozen=True)
class Pair:
    """A worker and an API, and what each sends."""

    worker: Traffic
    api: Traffic
    url: str


@pytest.fixture
def pair(database: str, redis_url: str, model: ModelServer, tmp_path: Path) -> Iterator[Pair]:
    """An idle worker and an idle API, both ready."""
    with ExitStack() as stack:
        of_worker, worker_url = stack.enter_context(counted(database))
        of_api, api_url = stack.enter_context(counted(database))
        further = {"KIMI_API_KEY": "sk-test-key", "KIMI_BASE_URL": model.base_url, "VM_API_TOKEN": "t" * 32}
        for_worker = managed_environment(worker_url, redis_url, tmp_path, **further)
        for_api = managed_environment(api_url, redis_url, tmp_path, **further)
        stack.enter_context(program("worker", env=for_worker, folder=tmp_path / "worker"))
        api = stack.enter_context(program("serve", "--port", "0", env=for_api, folder=tmp_path / "api"))
        url = address_of(api)
        eventually(lambda: read("SELECT 1 FROM worker_heartbeats WHERE state = 'working'"), "the worker works")
        eventually(lambda: httpx.get(f"{url}/api/v2/health/ready").status_code == 200, "the API is ready")
        yield Pair(of_worker, of_api, url)


def test_stages_of_a_run_cost_one_round_trip_and_one_commit_each(pair: Pair, model: ModelServer) -> None:
    model.script = lambda body: delayed(0.05)

    def carry_out() -> list[Query]:
        pair.worker.taken()
        with lost_hints():
            runs = [create("plan_90d", auto_approve=True).run.id for _ in range(RUNS)]
        for run in runs:
            assert wait_until_still(run, seconds=30).status == "completed"
        return [query for query in pair.worker.taken() if not is_regular(query)]

    carry_out()  # opens connections and prepares statements
    queries = carry_out()
    # Runs whose stages end at the same time share them.
    assert len(CATALOG.get("plan_90d").stages) <= len(queries) <= RUNS * ROUND_TRIPS_OF_A_RUN, shown(queries)
    assert sum(query.commits for query in queries) <= RUNS * COMMITS_OF_A_RUN


def is_regular(query: Query) -> bool:
    """Whether a query is the pulse's or a poll, which an idle worker makes too, or belongs to a new connection."""
    return query.session.startswith("vm-webapp pulse") or re.match(POLL_OR_NEW_CONNECTION, query.sql) is not None


def commands(client: redis.Redis) -> int:
    """Return how many commands Redis has run."""
    found: dict[str, dict[str, int]] = client.info("commandstats")
    return sum(counted["calls"] for name, counted in found.items() if name != "cmdstat_info")


def test_an_idle_second_costs_few_round_trips(pair: Pair, redis_url: str) -> None:
    client = redis.Redis.from_url(redis_url)
    before = commands(client)
    for traffic in (pair.worker, pair.api):
        traffic.taken()
    began = time.monotonic()
    time.sleep(IDLE_SECONDS)  # what is counted is how much happens while nothing does
    of_worker, of_api = pair.worker.taken(), pair.api.taken()
    sent_to_redis = commands(client) - before
    seconds = time.monotonic() - began + 1.0  # what is due each second may come once more
    assert sent_to_redis <= IDLE_COMMANDS * seconds + RIGHTS
    assert len(of_worker) + len(of_api) <= IDLE_PAIR * seconds, shown([*of_worker, *of_api])
    assert of_worker
    assert of_api
    assert len(of_worker) <= IDLE_WORKER * seconds, shown(of_worker)
    assert len(of_api) <= IDLE_API * seconds, shown(of_api)
    assert sum(query.commits for query in of_api) <= IDLE_API_COMMITS * seconds, shown(of_api)
    for queries in (of_worker, of_api):
        published = [query for query in queries if re.match(PUBLISHING, query.sql)]
        assert len(published) <= IDLE_PUBLISHING * seconds, shown(queries)


def shown(queries: list[Query]) -> str:
    """Return how often each query was made, the most frequent first."""
    counts = Counter(f"{' '.join(query.sql.split())[:100]}{' (commits)' * query.commits}" for query in queries)
    return "\n".join(f"{count:4d} {sql}" for sql, count in counts.most_common())
