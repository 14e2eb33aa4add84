"""The route that Prometheus scrapes."""

from __future__ import annotations

from aiohttp import web

from api.operations.headers import VARY
from api.operations.operation import operation
from api.services import services

OPENMETRICS = "application/openmetrics-text"


@operation(
    "GET",
    "/metrics",
    prefix="",
    role="viewer",
    summary="The metrics of all processes, for Prometheus",
    tag="metrics",
    media_type="text/plain",
    returns=(VARY,),
    alternatives={OPENMETRICS: {"type": "string"}},
)
async def read_metrics(request: web.Request) -> web.Response:
    """Return the metrics of every API and worker process, whichever process responds.

    They are in Prometheus' text format, or with ``Accept: application/openmetrics-text`` in that of OpenMetrics. A
    figure of a process has the labels ``process`` (``api`` or ``worker``) and ``instance``, and is at most ten seconds
    old. What processes have counted that are gone is under the instance ``gone``.
    """
    own = services(request)
    accept = request.headers.get("Accept", "")

    def scrape() -> tuple[bytes, str]:
        return own.scraper.scrape(own.health.latest() or own.health.check(), accept=accept)

    # With the probes, not with requests: overload must not hide itself.
    body, content_type = await own.health_threads.run(scrape)
    return web.Response(body=body, headers={"Content-Type": content_type, VARY.name: "Accept"})
