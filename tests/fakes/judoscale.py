"""A fake Judoscale: it takes reports at the address of one application, and keeps those in its library's format."""

from __future__ import annotations

import json
import os
from http.server import BaseHTTPRequestHandler
from typing import Any

from judoscale.core.config import Config
from judoscale.core.metric import Metric
from judoscale.core.platform import Platform
from judoscale.core.reporter import Reporter

from tests.fakes.http_fake import HttpFake

SECRET = "4f0cf2d3b1aa4a6f"


class FakeJudoscale(HttpFake):
    """Judoscale, on threads of its own.

    Attributes:
        url: for ``JUDOSCALE_URL``; its path holds a secret.
        reports: what it took, in the order in which it came.
        refused: what was wrong with what it did not take.
        requests: how many came.
        status: what it responds to a good report.
        hangs: it takes connections and responds nothing until it is closed.
    """

    def __init__(self) -> None:
        self.reports: list[dict[str, Any]] = []
        self.refused: list[str] = []
        self.requests = 0
        self.status = 200
        self.hangs = False
        judoscale = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                judoscale.requests += 1
                body = self.rfile.read(int(self.headers["Content-Length"]))
                if judoscale.hangs:
                    judoscale.closed.wait()
                    return
                status = judoscale._take(self.path, self.headers.get_content_type(), body)
                self.send_response(status)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, format: str, *args: object) -> None:
                pass

        super().__init__(Handler)
        self.url = f"http://127.0.0.1:{self.port}/api/{SECRET}"

    def _take(self, path: str, media_type: str, body: bytes) -> int:
        if self.status != 200:
            return self.status
        if (path, media_type) != (f"/api/{SECRET}/v3/reports", "application/json"):
            self.refused.append(f"{media_type} at {path}")
            return 404
        given = json.loads(body)
        if (shape := shape_of(given)) != (wanted := shape_of(real_report())):
            self.refused.append(f"{shape} instead of {wanted}")
            return 422
        self.reports.append(given)
        return 200


def real_report() -> dict[str, Any]:
    """Return a report that the library itself makes, on a queue in which a job waits and one runs."""
    env = {"JUDOSCALE_URL": "http://127.0.0.1/api/x"}
    reporter = Reporter(Config(Platform.detect(env), env))
    metrics = [Metric.for_queue("stages", oldest_job_ts=1.0), Metric.for_busy_queue("stages", 1)]
    report: dict[str, Any] = json.loads(json.dumps(reporter._build_report(metrics)))
    assert report["pid"] == os.getpid()
    return report


def shape_of(report: dict[str, Any]) -> dict[str, Any]:
    """Return the types of all values of a report, with the measurements by name; adapters may have any names."""
    return {
        **{name: type(value).__name__ for name, value in report.items()},
        "config": {name: type(value).__name__ for name, value in report["config"].items()},
        "adapters": {
            name: type(value).__name__ for adapter in report["adapters"].values() for name, value in adapter.items()
        },
        "metrics": [[*(type(value).__name__ for value in row), row[2], row[3]] for row in report["metrics"]],
    }
