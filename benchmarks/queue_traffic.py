"""The load of a queue on PostgreSQL and Redis, its throughput, and how soon a worker picks a stage up.

``uv run python -m benchmarks.queue_traffic`` takes about three minutes. The model is the offline provider, which
responds at once, so that the figures show the cost of the queue alone.
"""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import redis

from actors import connected
from tests.chaos.harness import Fleet, own_postgres, own_redis
from tests.chaos.ledger import completed_stages, create_many, quantile, wait_for_all
from tests.support.runs import read
from tests.support.waiting import eventually
from vm_webapp.db.pool import execute, transaction

THREADS = 32
POLL_MS = 500
IDLE_SECONDS = 10
PICK_UPS = 40

# Copies of one run, which are made at once and have the same rows as runs that a request created.
COPY_RUNS = """
WITH model AS (SELECT * FROM runs WHERE id = %(model)s), copies AS (
    SELECT uuidv7() AS id, n AS start_tag FROM generate_series(1, %(count)s) n
), made AS (
    INSERT INTO runs (id, workflow, status, request, auto_approve, workflow_digest, created_by, start_tag)
    SELECT copies.id, workflow, 'queued', request, true, workflow_digest, created_by, copies.start_tag
      FROM copies, model
)
INSERT INTO stages (id, run_id, position, key, title, status, priority, start_tag, requires_approval, needs_model,
                    queued_at, available_at)
SELECT uuidv7(), copies.id, position, key, title, CASE position WHEN 1 THEN 'queued' ELSE 'pending' END, priority,
       copies.start_tag, requires_approval, needs_model, CASE position WHEN 1 THEN clock_timestamp() END,
       CASE position WHEN 1 THEN clock_timestamp() END
  FROM copies, stages WHERE run_id = %(model)s
"""


@dataclass(frozen=True, slots=True)
class Traffic:
    """Counters of the servers at one time."""

    transactions: int
    redis_commands: int

    def __sub__(self, earlier: Traffic) -> Traffic:
        return Traffic(
            self.transactions - earlier.transactions,
            self.redis_commands - earlier.redis_commands,
        )


def read_traffic(client: redis.Redis | None) -> Traffic:
    """Read the counters of the servers."""
    transactions = read(
        "SELECT xact_commit + xact_rollback AS n FROM pg_stat_database WHERE datname = current_database()"
    )
    commands = 0
    if client is not None:
        commands = sum(stat["calls"] for name, stat in client.info("commandstats").items() if name != "cmdstat_info")
    return Traffic(transactions[0]["n"], commands)


@contextmanager
def workers(count: int, *, with_redis: bool = True) -> Iterator[tuple[Fleet, redis.Redis | None]]:
    """Run idle workers on new servers during the block."""
    with (
        TemporaryDirectory(prefix="vm-bench-") as folder,
        own_postgres() as postgres,
        own_redis() as server,
        redis.Redis.from_url(server.url) as client,
        Fleet(Path(folder), postgres.url, server.url if with_redis else None, None) as fleet,
        connected(server.url if with_redis else None),
    ):
        fleet.start_and_wait(count, threads=THREADS, poll_ms=POLL_MS)
        yield fleet, client if with_redis else None


def fill_queue(count: int) -> None:
    """Queue so many runs of three stages."""
    model = create_many(1)[0]
    wait_for_all(seconds=20)
    with transaction():
        execute(COPY_RUNS, model=model, count=count)
    with transaction():
        execute("ANALYZE runs")
        execute("ANALYZE stages")


def busy(worker_count: int, queued: int, stages: int) -> str:
    """Return a table row: the cost of executing so many stages while so many runs are queued."""
    with workers(worker_count) as (_, client):
        fill_queue(queued)
        before, done, began = read_traffic(client), completed_stages(), time.monotonic()
        eventually(lambda: completed_stages() >= done + stages, f"{stages} stages", seconds=300, every=0.1)
        seconds, executed = time.monotonic() - began, completed_stages() - done
        used = read_traffic(client) - before
        return (
            f"| {worker_count} | {queued:,} | {executed / seconds:.0f} | {used.transactions / executed:.2f}"
            f" | {used.redis_commands / executed:.2f} |"
        )


def idle(worker_count: int) -> str:
    """Return a table row: the cost of idle workers, per worker and second."""
    with workers(worker_count) as (_, client):
        time.sleep(2)
        before, began = read_traffic(client), time.monotonic()
        time.sleep(IDLE_SECONDS)
        used, per = read_traffic(client) - before, worker_count * (time.monotonic() - began)
        return f"| {worker_count} | {used.transactions / per:.1f} | {used.redis_commands / per:.1f} |"


def pick_up(*, with_redis: bool) -> str:
    """Return a table row: how long a stage waits for an idle worker."""
    dice = random.Random(7)
    with workers(1, with_redis=with_redis):
        created = []
        for _ in range(PICK_UPS):
            time.sleep(dice.uniform(0.05, 0.6))
            created += create_many(1, "smoke")
            wait_for_all(seconds=10)
        waits = sorted(
            row["ms"]
            for row in read(
                """
                SELECT extract(epoch FROM e.created_at - s.queued_at)::float8 * 1000 AS ms
                  FROM stages s JOIN events e ON e.run_id = s.run_id AND e.type = 'stage.started'
                """
            )
        )
        name = "with" if with_redis else "without"
        return f"| {name} | {quantile(waits, 0.5):.1f} ms | {quantile(waits, 0.95):.1f} ms |"


def main() -> None:
    """Measure everything, and print Markdown tables."""
    print("| Workers | Queued runs | Stages/s | Transactions/stage | Redis commands/stage |")
    print("| --- | --- | --- | --- | --- |")
    for worker_count in (1, 3):
        for queued, stages in ((200, 500), (20_000, 3000)):
            print(busy(worker_count, queued, stages), flush=True)
    print("\n| Idle workers | Transactions/worker/s | Redis commands/worker/s |")
    print("| --- | --- | --- |")
    for worker_count in (1, 3):
        print(idle(worker_count), flush=True)
    print("\n| Redis | Pick-up, median | Pick-up, p95 |")
    print("| --- | --- | --- |")
    for with_redis in (True, False):
        print(pick_up(with_redis=with_redis), flush=True)


if __name__ == "__main__":
    main()
