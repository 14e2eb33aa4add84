"""A fake of Render's API for one service: it speaks the API's wire format, and may start and stop real processes.

Source of the format: https://api-docs.render.com/reference/retrieve-service and /scale-service.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from contextlib import suppress
from http.server import BaseHTTPRequestHandler
from typing import Any

from tests.fakes.http_fake import HttpFake

KEY, SERVICE = "rnd_of-the-tests", "srv-of-the-tests"


class FakeRender(HttpFake):
    """The API, on threads of its own.

    Attributes:
        instances: how many instances the service has.
        autoscaling: what the service says of its own autoscaling; None as for one that never had it.
        keeps: a number that it keeps whatever is asked for, None to follow.
        asked: each number that was asked for, and when, in monotonic seconds.
        reads: how often the service was read.
        responses: what it responds to the next calls in place of the truth: status, headers and body.
        hangs_seconds: how long it waits before each response.
    """

    def __init__(self, on_scale: Callable[[int], None] = lambda _: None) -> None:
        self.instances = 1
        self.autoscaling: dict[str, Any] | None = None
        self.keeps: int | None = None
        self.asked: list[tuple[int, float]] = []
        self.reads = 0
        self.responses: list[tuple[str, int, dict[str, str], bytes]] = []
        self.hangs_seconds = 0.0
        self._on_scale = on_scale
        fake = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                fake.reads += 1
                self._answer("GET")

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                self._answer("POST", body)

            def _answer(self, method: str, body: Any = None) -> None:
                time.sleep(fake.hangs_seconds)
                for planned in fake.responses:
                    if planned[0] == method:
                        fake.responses.remove(planned)
                        self._send(*planned[1:])
                        return
                if self.headers["Authorization"] != f"Bearer {KEY}":
                    self._send(401, {}, b'{"id":"err-1","message":"Unauthorized"}')
                elif method == "GET" and self.path == f"/v1/services/{SERVICE}":
                    self._send(200, {}, json.dumps(fake.service()).encode())
                elif method == "POST" and self.path == f"/v1/services/{SERVICE}/scale":
                    fake.take(body["numInstances"])
                    self._send(202, {}, b"")
                else:
                    self._send(404, {}, b'{"id":"err-2","message":"not found: service"}')

            def _send(self, status: int, headers: dict[str, str], body: bytes) -> None:
                self.send_response(status)
                for name, value in ({"Content-Type": "application/json; charset=utf-8"} | headers).items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(body)))
                with suppress(ConnectionError):  # the client has not waited
                    self.end_headers()
                    self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:
                pass

        super().__init__(Handler)
        self.url = f"http://127.0.0.1:{self.port}/v1"

    def service(self) -> dict[str, Any]:
        """Return the service as the API describes it."""
        details: dict[str, Any] = {
            "env": "python",
            "numInstances": self.instances,
            "plan": "starter",
            "region": "frankfurt",
            "runtime": "python",
        }
        if self.autoscaling is not None:
            details["autoscaling"] = self.autoscaling
        return {
            "id": SERVICE,
            "name": "vm-webapp-worker",
            "type": "background_worker",
            "suspended": "not_suspended",
            "serviceDetails": details,
        }

    def take(self, instances: int) -> None:
        """Set the number, as far as this platform follows."""
        self.asked.append((instances, time.monotonic()))
        if self.autoscaling and self.autoscaling["enabled"]:
            return
        self.instances = instances if self.keeps is None else self.keeps
        self._on_scale(self.instances)

    @property
    def numbers(self) -> list[int]:
        """The numbers that were asked for, in order."""
        return [number for number, _ in self.asked]
