"""The samples of a process: what its registry holds, and what the metrics of several processes are."""

from __future__ import annotations

import pytest
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from vm_webapp import metrics
from vm_webapp.fleet.samples import ProcessSamples, Samples, collect_samples, merge
from vm_webapp.metrics import Declared, Names


@pytest.fixture
def registry(monkeypatch: pytest.MonkeyPatch) -> CollectorRegistry:
    """A registry of its own, with a metric of each kind."""
    declared = {
        "t_done": Declared("counter", "Done", ("route",)),
        "t_seconds": Declared("histogram", "Time", ("route",), (0.1, 1.0, 3600.0)),
        "t_open": Declared("gauge", "Open"),
    }
    monkeypatch.setattr(metrics, "DECLARED", declared)
    monkeypatch.setattr("vm_webapp.fleet.samples.DECLARED", declared)
    return CollectorRegistry()


def shown(*processes: ProcessSamples) -> dict[str, float]:
    """Return what the merged metrics show: name and labels → value."""
    found = {}
    for metric in merge(processes):
        for sample in metric.samples:
            labels = ",".join(f"{name}={value}" for name, value in sorted(sample.labels.items()))
            found[f"{sample.name} {labels}"] = sample.value
    return found


def test_samples_of_each_kind_come_back_as_they_were(registry: CollectorRegistry) -> None:
    done = Counter("t_done", "Done", ["route"], registry=registry)
    seconds = Histogram("t_seconds", "Time", ["route"], buckets=(0.1, 1, 3600), registry=registry)
    Gauge("t_open", "Open", registry=registry).set(3)
    done.labels('/a "b"\n').inc(2)
    for value in (0.05, 0.5, 0.5, 9999):
        seconds.labels("/x").observe(value)
    seconds.labels("/y").observe(7)
    found = shown(ProcessSamples("api", "one", collect_samples(registry)))
    assert found == {
        't_done_total instance=one,process=api,route=/a "b"\n': 2,
        "t_seconds_bucket instance=one,le=0.1,process=api,route=/x": 1,
        "t_seconds_bucket instance=one,le=1.0,process=api,route=/x": 3,
        "t_seconds_bucket instance=one,le=3600.0,process=api,route=/x": 3,
        "t_seconds_bucket instance=one,le=+Inf,process=api,route=/x": 4,
        "t_seconds_count instance=one,process=api,route=/x": 4,
        "t_seconds_sum instance=one,process=api,route=/x": pytest.approx(10_000.05),
        "t_seconds_bucket instance=one,le=0.1,process=api,route=/y": 0,
        "t_seconds_bucket instance=one,le=1.0,process=api,route=/y": 0,
        "t_seconds_bucket instance=one,le=3600.0,process=api,route=/y": 1,
        "t_seconds_bucket instance=one,le=+Inf,process=api,route=/y": 1,
        "t_seconds_count instance=one,process=api,route=/y": 1,
        "t_seconds_sum instance=one,process=api,route=/y": 7,
        "t_open instance=one,process=api": 3,
    }


def test_an_empty_bucket_takes_no_room(registry: CollectorRegistry) -> None:
    Histogram("t_seconds", "Time", ["route"], buckets=(0.1, 1, 3600), registry=registry).labels("/x").observe(0.5)
    assert collect_samples(registry)["counters"] == {'["t_seconds","/x","1.0"]': 1, '["t_seconds","/x","sum"]': 0.5}


def test_a_bucket_of_another_build_is_not_lost(registry: CollectorRegistry) -> None:
    samples: Samples = {"counters": {'["t_seconds","/x","0.1"]': 1, '["t_seconds","/x","0.5"]': 2}, "gauges": {}}
    found = shown(ProcessSamples("api", "one", samples))
    assert found["t_seconds_bucket instance=one,le=0.5,process=api,route=/x"] == 3
    assert found["t_seconds_bucket instance=one,le=1.0,process=api,route=/x"] == 3


@pytest.mark.parametrize("key", ['["t_unknown","/x"]', '["t_done"]', '["t_done","/x","y"]', '["t_seconds"]'])
def test_what_another_build_declares_is_left_out(registry: CollectorRegistry, key: str) -> None:
    assert shown(ProcessSamples("api", "one", {"counters": {key: 1}, "gauges": {}})) == {}


def test_processes_are_told_apart(registry: CollectorRegistry) -> None:
    found = shown(
        ProcessSamples("api", "one", {"counters": {'["t_done","/x"]': 1}}),
        ProcessSamples("worker", "two", {"counters": {'["t_done","/x"]': 5}}),
    )
    assert found == {
        "t_done_total instance=one,process=api,route=/x": 1,
        "t_done_total instance=two,process=worker,route=/x": 5,
    }


def test_names_beyond_the_limit_are_one() -> None:
    names = Names(most=2)
    assert [names.label("a", "1"), names.label("a", "2"), names.label("b", "1"), names.label("a", "1")] == [
        ("a", "1"),
        ("a", "2"),
        ("other", "other"),
        ("a", "1"),
    ]


def test_a_clock_that_was_set_back_takes_nothing_from_a_sum() -> None:
    before = collect_samples()["counters"]
    metrics.observe_claim("of a clock", "claim", -3.5)
    metrics.observe_review("of a clock", "review", -3.5)
    after = collect_samples()["counters"]
    new = {key: value for key, value in after.items() if value != before.get(key, 0)}
    assert new == {
        '["vm_stage_queue_seconds","of a clock","claim","0.01"]': 1,
        '["vm_stage_review_seconds","of a clock","review","10.0"]': 1,
    }


def test_every_declared_metric_has_a_name_and_a_help_of_its_own() -> None:
    assert all(name.startswith("vm_") for name in metrics.DECLARED)
    helps = [declared.help for declared in metrics.DECLARED.values()]
    assert len(set(helps)) == len(helps)
    assert not [text for text in helps if text.endswith(".")]
