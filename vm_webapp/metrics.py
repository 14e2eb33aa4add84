"""Every metric of this program.

A process counts in its own registry. ``vm_webapp.fleet.process_metrics`` stores what each process has counted, and
``vm_webapp.ops.scrape`` shows the figures of all processes, beside what it reads from the database.

Labels are bounded: routes are templates, reasons and outcomes are codes, and of names that come from elsewhere, such as
those of workflows and models, a process tells as many apart as ``MOST_NAMES``.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

Kind = Literal["counter", "histogram", "gauge", "fact"]
Metric = TypeVar("Metric", Counter, Gauge, Histogram)


@dataclass(frozen=True, slots=True)
class Declared:
    """A metric as it is declared.

    Attributes:
        kind: ``fact`` for a gauge that is read from the database at each scrape, and has no ``instance``.
        help: what it counts or measures, for people.
        labels: names of its labels, without those of the process.
        bounds: upper bounds of a histogram's buckets, in seconds.
    """

    kind: Kind
    help: str
    labels: tuple[str, ...] = ()
    bounds: tuple[float, ...] = ()


REGISTRY = CollectorRegistry()
DECLARED: dict[str, Declared] = {}
"""Name, without ``_total``, → what is declared under it."""

MOST_NAMES = 200
OTHER = "other"


class Names:
    """Tells the first names that it sees apart, and calls all others ``other``."""

    def __init__(self, most: int = MOST_NAMES) -> None:
        self._most = most
        self._known: set[tuple[str, ...]] = set()
        self._lock = threading.Lock()

    def label(self, *names: str) -> tuple[str, ...]:
        """Return the names, which belong together, or ``other`` for each."""
        if names not in self._known:
            with self._lock:
                if len(self._known) >= self._most:
                    return (OTHER,) * len(names)
                self._known.add(names)
        return names


_STAGES, _WORKFLOWS, _MODELS, _CODES = Names(), Names(), Names(), Names()


def _counter(name: str, help: str, *labels: str) -> Counter:
    DECLARED[name] = Declared("counter", help, labels)
    return Counter(name, help, labels, registry=REGISTRY)


def _histogram(name: str, help: str, *labels: str, bounds: Sequence[float]) -> Histogram:
    DECLARED[name] = Declared("histogram", help, labels, tuple(map(float, bounds)))
    return Histogram(name, help, labels, registry=REGISTRY, buckets=bounds)


def _gauge(name: str, help: str, *labels: str) -> Gauge:
    DECLARED[name] = Declared("gauge", help, labels)
    return Gauge(name, help, labels, registry=REGISTRY)


def _fact(name: str, help: str, *labels: str) -> str:
    DECLARED[name] = Declared("fact", help, labels)
    return name


HTTP_REQUESTS = _counter("vm_http_requests", "Requests that have ended", "method", "route", "status")
HTTP_REQUEST_SECONDS = _histogram(
    "vm_http_request_seconds",
    "Time until the response was there; without streams and requests with ?wait=",
    *("method", "route"),
    bounds=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10),
)
OPEN_STREAMS = _gauge("vm_open_streams", "Event streams that are open")

STAGE_QUEUE_SECONDS = _histogram(
    "vm_stage_queue_seconds",
    "Time from when a stage was due until a worker claimed it",
    *("workflow", "stage"),
    bounds=(0.01, 0.1, 0.5, 1, 2, 5, 10, 30, 60, 300, 900, 3600),
)
STAGE_MODEL_SECONDS = _histogram(
    "vm_stage_model_seconds",
    "Time of a model call of a stage, however it ended",
    *("workflow", "stage"),
    bounds=(0.1, 1, 2, 5, 10, 20, 40, 60, 120, 300, 600, 1800, 3600),
)
STAGE_REVIEW_SECONDS = _histogram(
    "vm_stage_review_seconds",
    "Time from when a draft was written until a person decided",
    *("workflow", "stage"),
    bounds=(10, 60, 300, 900, 3600, 14_400, 43_200, 86_400, 259_200, 604_800),
)
STAGES_FINISHED = _counter(
    "vm_stages_finished",
    "Stages that have ended: completed (a review included) or failed",
    "workflow",
    "stage",
    "outcome",
)
RUNS_FINISHED = _counter(
    "vm_runs_finished", "Runs that have ended: completed, failed or canceled", "workflow", "outcome"
)

MODEL_CALLS = _counter(
    "vm_model_calls",
    "Model calls by how they ended: ok, abandoned or the code of the failure",
    "provider",
    "model",
    "outcome",
)
MODEL_FIRST_TOKEN_SECONDS = _histogram(
    "vm_model_first_token_seconds",
    "Time from the beginning of a model call to its first token, reasoning included",
    *("provider", "model"),
    bounds=(0.1, 0.25, 0.5, 1, 2, 5, 10, 20, 40, 60, 120, 300),
)
MODEL_TOKENS = _counter(
    "vm_model_tokens", "Tokens of model calls, estimates included: prompt or completion", "provider", "model", "kind"
)
MODEL_COST = _counter("vm_model_cost", "What model calls have cost by VM_MODEL_PRICES", "model", "currency")

RETRIES = _counter("vm_retries", "Attempts that failed and are tried again, by the code of the failure", "reason")
RESCUES = _counter("vm_rescues", "Stages that were taken from a worker that was gone")
RELEASES = _counter("vm_releases", "Stages that a worker gave back, such as at its end")
HINTS = _counter("vm_hints", "Hints to workers that were sent to Redis, or failed", "result")

LOOP_LAG_SECONDS = _gauge(
    "vm_loop_lag_seconds", "By how much the event loop was late, at worst, since the process last published"
)
LOOP_ERRORS = _counter("vm_loop_errors", "Rounds of a maintenance loop that failed")
POOL_CONNECTIONS = _gauge("vm_pool_connections", "Connections to PostgreSQL: in_use or idle", "state")
POOL_WAIT_SECONDS = _histogram(
    "vm_pool_wait_seconds",
    "Time that a thread waited for a connection; those that need not wait are not counted",
    bounds=(0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 5),
)
BUILD_INFO = _gauge("vm_build_info", "1, for each process and the build that it runs", "build")

WORKERS = _fact("vm_workers", "Workers that are alive: starting, working or draining", "state")
SLOTS = _fact("vm_slots", "Stages that the working workers can run at a time")
IN_FLIGHT = _fact("vm_in_flight", "Stages that the working workers run now")
QUEUE_STAGES = _fact(
    "vm_queue_stages", "Stages: due (could be claimed), queued (due ones included) and running", "state"
)
QUEUE_OLDEST_DUE_SECONDS = _fact("vm_queue_oldest_due_seconds", "For how long the oldest due stage has been due")
QUEUE_PAUSED = _fact("vm_queue_paused", "1 while an operator has paused the queue")
QUEUE_ARRIVALS_PER_MINUTE = _fact(
    "vm_queue_arrivals_per_minute", "Stages that became due, as a mean of the last minute; absent while stale"
)
QUEUE_COMPLETIONS_PER_MINUTE = _fact(
    "vm_queue_completions_per_minute", "Attempts that ended, as a mean of the last minute; absent while stale"
)
QUEUE_STAGE_SECONDS = _fact(
    "vm_queue_mean_stage_seconds", "How long the last attempts ran, as a mean; absent while stale or unknown"
)
DESIRED_WORKERS = _fact("vm_desired_workers", "Workers that there should be, as GET /api/v2/queue says why")
AUTOSCALE_STALE = _fact(
    "vm_autoscale_stale", "1 while no API process has decided for 30 s: vm_desired_workers would run all work at once"
)
SCALE_CALLS = _fact("vm_scale_calls", "Calls of the last hour that were to change the number of workers", "outcome")
PROVIDER_PAUSED = _fact("vm_provider_paused", "1 while a provider of models is paused", "provider")
READY = _fact("vm_ready", "1 if work can progress, as GET /api/v2/health/ready says")
DEPENDENCY_STATUS = _fact(
    "vm_dependency_status", "1 for what readiness says of each dependency", "dependency", "status"
)


_children: dict[tuple[object, ...], Any] = {}


def labelled(metric: Metric, *labels: str) -> Metric:
    """Return a metric's child with these labels, of which there are few; faster than its ``labels``, which locks."""
    child: Metric | None = _children.get((metric, *labels))
    if child is None:
        child = _children[metric, *labels] = metric.labels(*labels)
    return child


def observe_claim(workflow: str, stage: str, waited_seconds: float | None) -> None:
    """Record that a stage was claimed.

    Args:
        workflow: the name of its workflow.
        stage: its key.
        waited_seconds: for how long it had been due, None if that is unknown.
    """
    if waited_seconds is not None:
        labelled(STAGE_QUEUE_SECONDS, *_STAGES.label(workflow, stage)).observe(_since(waited_seconds))


def observe_review(workflow: str, stage: str, seconds: float) -> None:
    """Record that a person decided about a draft, so many seconds after it was written."""
    labelled(STAGE_REVIEW_SECONDS, *_STAGES.label(workflow, stage)).observe(_since(seconds))


def _since(seconds: float) -> float:
    """Return a time between two readings of the database's clock, which may have been set back between them."""
    return max(0.0, seconds)


def count_stage(workflow: str, stage: str, outcome: Literal["completed", "failed"]) -> None:
    """Count a stage that has ended."""
    labelled(STAGES_FINISHED, *_STAGES.label(workflow, stage), outcome).inc()


def count_run(workflow: str, outcome: Literal["completed", "failed", "canceled"]) -> None:
    """Count a run that has ended."""
    labelled(RUNS_FINISHED, *_WORKFLOWS.label(workflow), outcome).inc()


def count_retry(reason: str) -> None:
    """Count a failed attempt that is tried again; ``reason`` is the code of its failure."""
    labelled(RETRIES, *_CODES.label(reason)).inc()


def observe_call(
    provider: str,
    model: str | None,
    workflow: str,
    stage: str,
    *,
    outcome: str,
    seconds: float,
    first_after: float | None,
) -> None:
    """Record a model call that has ended.

    Args:
        provider: the provider's name.
        model: the model that was asked for, None where none is named.
        workflow: the name of the stage's workflow.
        stage: the stage's key.
        outcome: ``ok``, ``abandoned`` or the code of the failure.
        seconds: how long it took.
        first_after: after how many seconds its first token came, None if none did.
    """
    called = _MODELS.label(provider, model or "none")
    labelled(MODEL_CALLS, *called, *_CODES.label(outcome)).inc()
    labelled(STAGE_MODEL_SECONDS, *_STAGES.label(workflow, stage)).observe(seconds)
    if first_after is not None:
        labelled(MODEL_FIRST_TOKEN_SECONDS, *called).observe(first_after)


def count_tokens(provider: str, model: str | None, *, prompt: int, completion: int) -> None:
    """Count the tokens of a model call, estimates included."""
    called = _MODELS.label(provider, model or "none")
    labelled(MODEL_TOKENS, *called, "prompt").inc(prompt)
    labelled(MODEL_TOKENS, *called, "completion").inc(completion)


def count_cost(model: str, currency: str, money: float) -> None:
    """Count what a model call has cost."""
    labelled(MODEL_COST, *_MODELS.label(model), currency).inc(money)
