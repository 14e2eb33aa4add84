"""A client that keeps every part of a response, and assertions that hold for every response."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import aiohttp
from multidict import CIMultiDictProxy
from yarl import URL

from api.services import Services
from vm_webapp.db.pool import rows, transaction

NEW_RUN = {"workflow": "content_calendar", "request": "A calendar for a bakery that delivers by bicycle"}


@dataclass(frozen=True)
class Response:
    """A complete response."""

    status: int
    headers: CIMultiDictProxy[str]
    body: bytes

    def json(self) -> Any:
        """Return the body, which must say that it is JSON."""
        assert self.headers["Content-Type"].startswith(("application/json", "application/problem+json"))
        return json.loads(self.body)

    def problem(self, status: int, code: str) -> dict[str, Any]:
        """Return the problem, which must be this one."""
        assert (self.status, self.headers["Content-Type"]) == (status, "application/problem+json"), self.body
        body: dict[str, Any] = json.loads(self.body)
        assert (body["type"], body["status"]) == (f"/problems/{code}", status)
        assert body["request_id"] == self.headers["X-Request-ID"]
        assert body["title"]
        assert body["detail"]
        return body

    def wrong(self, status: int, code: str) -> set[str]:
        """Return the pointers and parameters that the problem names."""
        return {each.get("pointer", each.get("parameter")) for each in self.problem(status, code)["errors"]}


@dataclass(frozen=True)
class Api:
    """A running API, and what it runs on."""

    base_url: str
    services: Services
    session: aiohttp.ClientSession

    async def request(self, method: str, path: str, *, prefix: str = "/api/v2", **options: Any) -> Response:
        """Send a request to a path below ``/api/v2``, or below another prefix, exactly as it is written."""
        url = URL(f"{self.base_url}{prefix}{path}", encoded=True)
        async with self.session.request(method, url, allow_redirects=False, **options) as response:
            return Response(response.status, response.headers, await response.read())

    async def get(self, path: str, **options: Any) -> Response:
        """GET a path."""
        return await self.request("GET", path, **options)

    async def post(self, path: str, body: Any, **options: Any) -> Response:
        """POST a value as JSON."""
        return await self.request("POST", path, json=body, **options)

    async def post_raw(self, path: str, body: Any, headers: Mapping[str, str] | None = None) -> Response:
        """POST these bytes, as JSON unless the headers say otherwise."""
        return await self.request(
            "POST", path, data=body, headers={"Content-Type": "application/json"} if headers is None else headers
        )

    async def create_run(self, **fields: Any) -> dict[str, Any]:
        """Create a run and return it."""
        response = await self.post("/runs", NEW_RUN | fields)
        assert response.status == 201, response.body
        run: dict[str, Any] = response.json()
        return run


def written() -> dict[str, int]:
    """Return how many rows there are of all that a request may write."""
    with transaction():
        counts = "SELECT (SELECT count(*) FROM runs) AS runs, (SELECT count(*) FROM stages) AS stages,"
        return rows(f"{counts} (SELECT count(*) FROM events) AS events")[0]


async def until(holds: Callable[[], bool], *, seconds: float = 5.0) -> None:
    """Return as soon as a condition holds.

    Raises:
        TimeoutError: it did not within the time.
    """
    async with asyncio.timeout(seconds):
        while not holds():
            await asyncio.sleep(0.005)
