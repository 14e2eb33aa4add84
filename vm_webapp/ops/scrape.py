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
from vm_webapp.ops.autoscale.calls import OUTCOMES, count_calls
from vm_webapp.ops.autoscale.decisions import read_signal
from vm_webapp.ops.health import Health
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
    signal, workers, pauses, calls = read_signal(), rows(_WORKERS), read_pauses(), count_calls()
    alive = {state: sum(each["workers"] for each in workers if each["state"] == state) for state in STATES}
    yield _fact(metrics.WORKERS, {(state,): float(count) for state, count in alive.items()})
    stages = {"due": signal.due, "queued": signal.queued, "running": signal.running}
    yield _fact(metrics.QUEUE_STAGES, {(state,): float(count) for state, count in stages.items()})
    single = {
        metrics.SLOTS: signal.slots,
        metrics.IN_FLIGHT: signal.in_flight,
        metrics.QUEUE_OLDEST_DUE_SECONDS: signal.oldest_due_seconds,
        metrics.QUEUE_PAUSED: pauses.queue is not None,
        metrics.QUEUE_ARRIVALS_PER_MINUTE: signal.arrivals_per_minute,
        metrics.QUEUE_COMPLETIONS_PER_MINUTE: signal.completions_per_minute,
        metrics.QUEUE_STAGE_SECONDS: signal.mean_stage_seconds,
        metrics.DESIRED_WORKERS: signal.desired_workers,
        metrics.AUTOSCALE_STALE: signal.stale,
    }
    for name, value in single.items():
        if value is not None:
            yield _fact(name, {(): float(value)})
    yield _fact(metrics.SCALE_CALLS, {(outcome,): float(calls.get(outcome, 0)) for outcome in OUTCOMES})
    providers = sorted({each["provider"] for each in workers} | pauses.providers.keys())
    yield _fact(metrics.PROVIDER_PAUSED, {(name,): float(name in pauses.providers) for name in providers})


def _fact(name: str, values: Values) -> Metric:
    declared = metrics.DECLARED[name]
    metric = GaugeMetricFamily(name, declared.help, labels=declared.labels)
    for labels, value in values.items():
        metric.add_metric(labels, value)
    return metric
