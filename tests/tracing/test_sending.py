"""Spans on their way to a collector: one that responds, one that refuses, one that hangs, and none."""

from __future__ import annotations

import logging
import socket
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.fakes.collector import FakeCollector
from tests.support.waiting import eventually
from vm_webapp.tracing import batches
from vm_webapp.tracing.collector import Collector
from vm_webapp.tracing.configuration import Tracing
from vm_webapp.tracing.opening import open_tracer
from vm_webapp.tracing.spans import Kind, Tracer

PROCESS = {"service": "vm-webapp-worker", "build": "1.2.3", "instance": "host:7"}


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batches, "EVERY_SECONDS", 0.02)
    monkeypatch.setattr(batches, "RETRY_SECONDS", 0.05)


@pytest.fixture
def collector() -> Iterator[FakeCollector]:
    """A collector that responds well unless a test changes it."""
    with FakeCollector() as running:
        yield running


def record(tracer: Tracer | None, count: int = 1, **attributes: Any) -> None:
    """Record spans whose names are numbers."""
    assert tracer is not None
    for number in range(count):
        tracer.begin(str(number), Kind.INTERNAL, dict(attributes)).end()


def said(caplog: pytest.LogCaptureFixture) -> list[str]:
    """Return what was logged about sending."""
    return [entry.message for entry in caplog.records if entry.name == batches.__name__]


def test_a_span_arrives_as_it_was_recorded(collector: FakeCollector) -> None:
    tracing = Tracing(collector.endpoint, {"api-key": "s3cret"}, {"deployment.environment.name": "staging"})
    with open_tracer(tracing, **PROCESS) as tracer:
        assert tracer is not None
        span = tracer.begin("stage research", Kind.CONSUMER, {"vm.attempt": 2, "vm.stage": "research", "yes": True})
        cause = tracer.begin("POST", Kind.SERVER, {})
        span.error, span.link = "llm_timeout", cause.context
        span.end()
        eventually(lambda: collector.spans, "the span arrives")
    (seen,) = collector.spans
    assert (seen.name, seen.kind, seen.failed, seen.parent_id) == ("stage research", 5, True, "")
    assert (seen.trace_id, seen.span_id) == (span.trace_id, f"{span.context.span_id:016x}")
    assert (seen.start_ns, seen.end_ns) == (span.start_ns, span.end_ns)
    assert seen.links == (f"{cause.context.span_id:016x}",)
    assert seen.attributes == {"vm.attempt": 2, "vm.stage": "research", "yes": True, "error.type": "llm_timeout"}
    assert seen.resource == {
        "service.name": "vm-webapp-worker",
        "service.version": "1.2.3",
        "service.instance.id": "host:7",
        "deployment.environment.name": "staging",
    }
    assert collector.headers[0]["api-key"] == "s3cret"


def test_what_waits_at_the_end_is_sent(collector: FakeCollector, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batches, "EVERY_SECONDS", 60.0)
    with open_tracer(Tracing(collector.endpoint), **PROCESS) as tracer:
        record(tracer, 3)
    assert [span.name for span in collector.spans] == ["0", "1", "2"]


def test_a_full_batch_is_sent_at_once(collector: FakeCollector, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batches, "EVERY_SECONDS", 60.0)
    with open_tracer(Tracing(collector.endpoint), **PROCESS) as tracer:
        record(tracer, batches.BATCH)
        eventually(lambda: len(collector.spans) == batches.BATCH, "the batch arrives")


def test_an_outage_is_said_once_and_loses_nothing_that_fits(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level(logging.INFO)
    attempts: list[bytes] = []
    send = Collector.send

    def count(collector: Collector, body: bytes) -> None:
        attempts.append(body)
        send(collector, body)

    monkeypatch.setattr(Collector, "send", count)
    with socket.socket() as reserved:
        reserved.bind(("127.0.0.1", 0))
        port = reserved.getsockname()[1]
    with open_tracer(Tracing(f"http://127.0.0.1:{port}", {"api-key": "s3cret"}), **PROCESS) as tracer:
        record(tracer, 2)
        eventually(lambda: len(attempts) >= 3, "it is tried again")
        assert said(caplog) == ["traces.not_sent"]
        with FakeCollector(port) as back:
            eventually(lambda: len(back.spans) == 2, "what waited arrives")
            eventually(lambda: said(caplog) == ["traces.not_sent", "traces.sent_again"], "the end is said")
            record(tracer)
            eventually(lambda: len(back.spans) == 3, "and what comes after it")
    line = next(entry for entry in caplog.records if entry.message == "traces.not_sent")
    assert line.__dict__["error"].startswith("no connection to the collector: ")
    assert line.exc_info is None
    assert "s3cret" not in repr([vars(entry) for entry in caplog.records])


@pytest.mark.parametrize(("status", "kept"), [(503, True), (429, True), (400, False), (401, False), (307, False)])
def test_a_refused_batch_is_kept_only_where_it_may_be_taken_later(
    collector: FakeCollector, caplog: pytest.LogCaptureFixture, status: int, kept: bool
) -> None:
    collector.status = status
    with open_tracer(Tracing(collector.endpoint), **PROCESS) as tracer:
        record(tracer)
        eventually(lambda: said(caplog), "the refusal is said")
        collector.status = 200
        record(tracer, 2)
        eventually(lambda: len(collector.spans) >= 2 + kept, "the others arrive")
    assert [span.name for span in collector.spans] == (["0"] if kept else []) + ["0", "1"]
    line = next(entry for entry in caplog.records if entry.message == "traces.not_sent")
    assert line.__dict__["error"] == f"the collector responded {status}"


def test_a_web_page_is_not_taken_for_a_collector(collector: FakeCollector, caplog: pytest.LogCaptureFixture) -> None:
    collector.content_type = "text/html; charset=utf-8"
    with open_tracer(Tracing(collector.endpoint), **PROCESS) as tracer:
        record(tracer)
        eventually(lambda: said(caplog), "the wrong address is said")
    assert said(caplog) == ["traces.not_sent"]
    assert caplog.records[-1].__dict__["error"] == "the collector responded 200 with a web page: check its URL"


def test_a_collector_that_hangs_delays_nobody(
    collector: FakeCollector, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batches, "MOST_WAITING", 100)
    collector.hangs = True
    began = time.monotonic()
    with open_tracer(Tracing(collector.endpoint), **PROCESS) as tracer:
        record(tracer)
        eventually(lambda: collector.headers, "the collector has a batch, and keeps it")
        added = time.monotonic()
        record(tracer, 5_000)
        assert time.monotonic() - added < 2.0  # of which no part waits: 5,000 spans take a tenth of it
        closing = time.monotonic()
    assert time.monotonic() - closing < 1.0
    assert time.monotonic() - began < 4.0


def test_without_settings_there_is_no_tracer() -> None:
    with open_tracer(None, **PROCESS) as tracer:
        assert tracer is None
