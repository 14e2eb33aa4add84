"""Sends encoded spans to a collector by OTLP over HTTP.

Source: https://opentelemetry.io/docs/specs/otlp/#otlphttp
"""

from __future__ import annotations

import ssl
import urllib.error
import urllib.request
from collections.abc import Mapping
from http.client import HTTPException

from vm_webapp.text import first_line
from vm_webapp.tracing.batches import NotSent

TIMEOUT_SECONDS = 3.0
RETRYABLE = (429, 502, 503, 504)
PATH = "/v1/traces"


class Collector:
    """A collector's endpoint.

    Args:
        endpoint: its base URL, as ``OTEL_EXPORTER_OTLP_ENDPOINT`` has it.
        headers: sent with each batch, such as a key; never shown.
    """

    def __init__(self, endpoint: str, headers: Mapping[str, str]) -> None:
        self._url = endpoint.rstrip("/") + PATH
        self._headers = {"Content-Type": "application/x-protobuf", **headers}
        # Its certificates are read once and not for each batch.
        self._opener = urllib.request.build_opener(
            _NoRedirect, urllib.request.HTTPSHandler(context=ssl.create_default_context())
        )

    def send(self, body: bytes) -> None:
        """Send an ``ExportTraceServiceRequest``.

        Raises:
            NotSent: the collector did not take it.
        """
        # The settings admit http and https only.
        request = urllib.request.Request(self._url, data=body, headers=self._headers, method="POST")  # noqa: S310
        try:
            with self._opener.open(request, timeout=TIMEOUT_SECONDS):
                pass
        except urllib.error.HTTPError as error:
            error.close()
            raise NotSent(f"the collector responded {error.code}", retryable=error.code in RETRYABLE) from None
        except (OSError, HTTPException) as error:
            reason = getattr(error, "reason", error)
            shown = first_line(reason) if isinstance(reason, BaseException) else str(reason)
            raise NotSent(f"no connection to the collector: {shown}", retryable=True) from None


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """Takes a redirect for an error: following it would send the headers, and a key in them, to another server."""

    def redirect_request(self, *args: object, **kwargs: object) -> None:
        return None
