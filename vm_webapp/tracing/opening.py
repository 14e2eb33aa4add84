"""Begins and ends the recording of traces in a process."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from vm_webapp.tracing.batches import Batches
from vm_webapp.tracing.configuration import Tracing
from vm_webapp.tracing.sampling import sampler_of
from vm_webapp.tracing.spans import Tracer


@contextmanager
def open_tracer(tracing: Tracing | None, *, service: str, build: str, instance: str) -> Iterator[Tracer | None]:
    """Record traces for the block; what waits at its end is sent, for less than a second.

    Args:
        tracing: the settings, None to record nothing.
        service: the service's name, such as ``vm-webapp-worker``.
        build: its version.
        instance: tells this process from others of the service: of an API the label ``instance`` of its metrics, of a
            worker its id.

    Yields:
        The tracer, None without settings.
    """
    if tracing is None:
        yield None
        return
    # Here, because a process that records no traces needs neither protobuf nor an HTTP client, nor their memory.
    from vm_webapp.tracing.collector import Collector
    from vm_webapp.tracing.otlp import Encoder

    process = {"service.name": service, "service.version": build, "service.instance.id": instance}
    encoder, collector = Encoder({**process, **tracing.resource}), Collector(tracing.endpoint, tracing.headers)
    batches = Batches(lambda spans: collector.send(encoder.encode(spans)))
    try:
        yield Tracer(batches.add, sampler_of(tracing))
    finally:
        batches.close()
