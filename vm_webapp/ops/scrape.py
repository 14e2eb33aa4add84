"""What a scrape returns: the metrics that every process has published, and what the database and readiness say now."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator

from peewee import SQL, DatabaseError
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from vm_webapp import metrics
from vm_webapp.db.compiled import COUNT, compiled
from vm_webapp.db.models import WorkerHeartbeat
from vm_webapp.db.pool import rows, transaction
from vm_webapp.errors import DatabaseUnavailable
from vm_webapp.fleet.alive import ALIVE
from vm_webapp.fleet.process_metrics import read_samples
from vm_webapp.fleet.samples import merge
from vm_webapp.ops.health import Health
from vm_webapp.ops.queue_control import read_queue
from vm_webapp.runs.pauses import read_pauses

FACTS_SECONDS = 1.0
Values = dict[tuple[str, ...], float]  # by the values of the labels
STATES = ("starting", "working", "draining")

_WORKERS = compiled(
    WorkerHeartbeat.select(WorkerHeartbeat.state, WorkerHeartbeat.provider, COUNT.alias("workers"))
    .where(ALIVE)
    .group_by(SQL("1, 2"))
    .order_by(SQL("1, 2"))
)


class Scraper:
    """Responds to scrapes.

    Args:
        clock: monotonic seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._facts: list[Metric] = []
        self._facts_until = 0.0

    def scrape(self, health: Health, *, accept: str) -> tuple[bytes, str]:
        """Return the exposition and its content type.

        While the database does not respond, it is only what readiness says: the figures of processes, this one
        included, come from their rows alone, because a counter that is ahead of its row in one response would fall in
        the next one, by another process.

        Args:
            health: the latest verdict.
            accept: the header of that name: OpenMetrics where it asks for that, else Prometheus' text format.
        """
        found = [*_readiness(health)]
        try:
            with transaction(durable=False):
                found += merge(read_samples())
                found += self._read_facts()
        except (DatabaseUnavailable, DatabaseError):
            pass  # the verdict says why
        encode, content_type = choose_encoder(accept)
        return encode(_Found(found)), content_type

    def _read_facts(self) -> list[Metric]:
        with self._lock:
            if self._clock() >= self._facts_until:
                self._facts = list(_facts())
                self._facts_until = self._clock() + FACTS_SECONDS
            return self._facts


class _Found(Collector):
    """Metrics that have been collected."""

    def __init__(self, found: Iterable[Metric]) -> None:
        self._found = found

    def collect(self) -> Iterable[Metric]:
        return self._found


def _readiness(health: Health) -> Iterator[Metric]:
    yield _fact(metrics.READY, {(): float(health.ready)})
    statuses: Values = {(name, str(facts["status"])): 1.0 for name, facts in health.dependencies.items()}
    yield _fact(metrics.DEPENDENCY_STATUS, statuses)


def _facts() -> Iterator[Metric]:
    """Return what the database says now, inside the current transaction."""
    queue, workers, paused = read_queue(), rows(_WORKERS), read_pauses().providers
    alive = {state: sum(each["workers"] for each in workers if each["state"] == state) for state in STATES}
    yield _fact(metrics.WORKERS, {(state,): float(count) for state, count in alive.items()})
    yield _fact(metrics.SLOTS, {(): float(queue.slots)})
    yield _fact(metrics.IN_FLIGHT, {(): float(queue.in_flight)})
    stages = {"due": queue.due, "queued": queue.queued, "running": queue.running}
    yield _fact(metrics.QUEUE_STAGES, {(state,): float(count) for state, count in stages.items()})
    yield _fact(metrics.QUEUE_OLDEST_DUE_SECONDS, {(): queue.oldest_due_seconds})
    yield _fact(metrics.QUEUE_PAUSED, {(): float(queue.paused)})
    yield _fact(metrics.DESIRED_WORKERS, {(): float(queue.desired_workers)})
    providers = sorted({each["provider"] for each in workers} | paused.keys())
    yield _fact(metrics.PROVIDER_PAUSED, {(name,): float(name in paused) for name in providers})


def _fact(name: str, values: Values) -> Metric:
    declared = metrics.DECLARED[name]
    metric = GaugeMetricFamily(name, declared.help, labels=declared.labels)
    for labels, value in values.items():
        metric.add_metric(labels, value)
    return metric
