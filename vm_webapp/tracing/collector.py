"""Sends encoded spans to a collector by OTLP over HTTP.

Source: https://opentelemetry.io/docs/specs/otlp/#otlphttp
"""

from __future__ import annotations

from collections.abc import Mapping

from vm_webapp.endpoint import Endpoint, NotTaken
from vm_webapp.tracing.batches import NotSent

RETRYABLE = (429, 502, 503, 504)
PATH = "/v1/traces"


class Collector:
    """A collector's endpoint.

    Args:
        endpoint: its base URL, as ``OTEL_EXPORTER_OTLP_ENDPOINT`` has it.
        headers: sent with each batch, such as a key; never shown.
    """

    def __init__(self, endpoint: str, headers: Mapping[str, str]) -> None:
        given = {"Content-Type": "application/x-protobuf", **headers}
        self._endpoint = Endpoint("the collector", endpoint.rstrip("/") + PATH, given)

    def send(self, body: bytes) -> None:
        """Send an ``ExportTraceServiceRequest``.

        Raises:
            NotSent: the collector did not take it.
        """
        try:
            self._endpoint.post(body)
        except NotTaken as error:
            raise NotSent(str(error), retryable=error.status is None or error.status in RETRYABLE) from None
