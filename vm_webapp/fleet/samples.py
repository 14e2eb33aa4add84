"""What a process has counted, in the form in which its row keeps it, and as metrics of the fleet.

A sample is a number under a key: the JSON of the metric's name and its labels' values. A histogram has one sample for
each bucket that is not empty, with the bucket's upper bound as a last value, and one for its sum, with ``sum``. Buckets
are not cumulative, so that samples of several processes are added number by number.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from vm_webapp.metrics import DECLARED, REGISTRY, Declared

Samples = dict[str, dict[str, float]]
SUM = "sum"
PROCESS_LABELS = ("process", "instance")
_DIGITS = 6


@dataclass(frozen=True, slots=True)
class ProcessSamples:
    """The samples of one process.

    Attributes:
        process: ``api`` or ``worker``.
        instance: which one, or ``gone`` for all whose rows were purged.
        samples: ``counters``, which also holds histograms, and ``gauges``: key → number.
    """

    process: str
    instance: str
    samples: Samples


def collect_samples(registry: Collector = REGISTRY) -> Samples:
    """Return what this process has counted so far."""
    samples: Samples = {"counters": {}, "gauges": {}}
    for family in registry.collect():
        declared = DECLARED[family.name]
        if declared.kind == "histogram":
            samples["counters"].update(_of_histogram(family, declared))
        elif declared.kind == "counter":
            samples["counters"].update(_of_values(family, declared, f"{family.name}_total"))
        else:
            samples["gauges"].update(_of_values(family, declared, family.name))
    return samples


def merge(processes: Iterable[ProcessSamples]) -> list[Metric]:
    """Return the metrics of all processes, each series with the labels of its process.

    What this build does not declare, or declares with other labels, is left out: another build has counted it.
    """
    families = {name: _Family(declared) for name, declared in DECLARED.items()}
    for each in processes:
        for key, value in _all_of(each.samples):
            name, *labels = json.loads(key)
            if name in families:
                families[name].add((each.process, each.instance), labels, value)
    return [family.metric(name) for name, family in families.items() if family.series]


def _of_values(family: Metric, declared: Declared, sample_name: str) -> Iterator[tuple[str, float]]:
    for sample in family.samples:
        if sample.name == sample_name:
            yield _key(family.name, declared, sample.labels), _short(sample.value)


def _of_histogram(family: Metric, declared: Declared) -> Iterator[tuple[str, float]]:
    before = 0.0
    for sample in family.samples:
        if sample.name == f"{family.name}_bucket":
            # The buckets of one child come in their order; with the first, another child begins.
            if float(sample.labels["le"]) == declared.bounds[0]:
                before = 0.0
            if sample.value > before:
                yield _key(family.name, declared, sample.labels, sample.labels["le"]), _short(sample.value - before)
            before = sample.value
        elif sample.name == f"{family.name}_sum" and sample.value:
            yield _key(family.name, declared, sample.labels, SUM), _short(sample.value)


def _key(name: str, declared: Declared, labels: dict[str, str], *further: str) -> str:
    return json.dumps([name, *(labels[each] for each in declared.labels), *further], separators=(",", ":"))


def _short(value: float) -> float:
    return int(value) if value == int(value) else round(value, _DIGITS)


def _all_of(samples: Any) -> Iterator[tuple[str, float]]:
    for kind in ("counters", "gauges"):
        yield from samples.get(kind, {}).items()


@dataclass
class _Family:
    """The series of one metric: the labels' values, those of the process first → numbers by bucket."""

    declared: Declared
    series: dict[tuple[str, ...], dict[str, float]] = field(default_factory=dict)

    def add(self, process: tuple[str, str], labels: list[str], value: float) -> None:
        bucket = labels.pop() if self.declared.kind == "histogram" and labels else ""
        if len(labels) == len(self.declared.labels):
            self.series.setdefault((*process, *labels), {})[bucket] = value

    def metric(self, name: str) -> Metric:
        labels, text = (*PROCESS_LABELS, *self.declared.labels), self.declared.help
        if self.declared.kind == "histogram":
            histogram = HistogramMetricFamily(name, text, labels=labels)
            for values, numbers in self.series.items():
                histogram.add_metric(values, self._cumulated(numbers), numbers.get(SUM, 0.0))
            return histogram
        kind = CounterMetricFamily if self.declared.kind == "counter" else GaugeMetricFamily
        metric = kind(name, text, labels=labels)
        for values, numbers in self.series.items():
            metric.add_metric(values, numbers[""])
        return metric

    def _cumulated(self, numbers: dict[str, float]) -> list[tuple[str, float]]:
        # Another build may have had other bounds.
        given = {float(bound): number for bound, number in numbers.items() if bound != SUM}
        total, buckets = 0.0, []
        for bound in sorted({*self.declared.bounds, math.inf, *given}):
            total += given.get(bound, 0.0)
            buckets.append(("+Inf" if bound == math.inf else str(bound), total))
        return buckets
