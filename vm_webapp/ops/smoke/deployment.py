"""A deployment as the smoke test talks to it: whatever goes wrong is one line that says what to do."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import httpx

from vm_webapp.sse import event_data

API = "/api/v2"
STREAM_SECONDS = 60.0


class StepFailed(Exception):
    """A step failed; the text is one line that says what to do."""


@dataclass(frozen=True, slots=True)
class Deployment:
    """An API, whoever serves it.

    Attributes:
        http: a client whose base URL is the address.
        address: the address, for messages.
        answer_seconds: how long any answer may take.
    """

    http: httpx.AsyncClient
    address: str
    answer_seconds: float

    async def events(self, run_id: str) -> AsyncIterator[dict[str, Any]]:
        """Yield what the stream of a run tells, events and progress, to its end.

        Raises:
            StepFailed: it was refused, or it broke off.
        """
        with _clear_errors(self.address):
            async with self.http.stream(
                "GET", f"{API}/runs/{run_id}/events", headers={"Accept": "text/event-stream"}, timeout=STREAM_SECONDS
            ) as response:
                if response.status_code != 200:
                    await response.aread()
                    raise StepFailed(f"the stream was refused: {why(response)}")
                async for data in event_data(response.aiter_bytes()):
                    yield json.loads(data)

    async def call(
        self, method: str, path: str, body: dict[str, Any] | None = None, *, wait_seconds: float = 0
    ) -> dict[str, Any]:
        """Return the object that is answered with success.

        Raises:
            StepFailed: there was none.
        """
        response = await self.send(method, path, body, wait_seconds=wait_seconds)
        if not response.is_success:
            raise StepFailed(f"{method} {path.partition('?')[0]}: {why(response)}")
        return read_object(response)

    async def readiness(self) -> dict[str, Any]:
        """Return what readiness tells where work can progress; ``dependencies`` holds an object for each.

        Raises:
            StepFailed: work cannot progress, or the answer is none of this API.
        """
        response = await self.send("GET", "/health/ready")
        body = read_object(response)
        if (response.status_code, body.get("status")) != (200, "ready"):
            reasons = body.get("reasons")
            told = "; ".join(map(str, reasons)) if isinstance(reasons, list) else ""
            raise StepFailed(told or f"it answered {response.status_code}")
        dependencies = body.get("dependencies")
        if not isinstance(dependencies, dict) or not all(
            isinstance(facts, dict) and "status" in facts for facts in dependencies.values()
        ):
            raise StepFailed("it answered 200 without the dependencies: is --base-url this API?")
        return body

    async def send(
        self, method: str, path: str, body: dict[str, Any] | None = None, *, wait_seconds: float = 0
    ) -> httpx.Response:
        """Return the answer, whatever it is, to a request for a path below ``/api/v2``.

        Args:
            wait_seconds: how much longer than usual it may take, because the request says so.

        Raises:
            StepFailed: there was none in time.
        """
        # A limit for the whole answer: a server that sends a byte now and then never times out by itself.
        seconds = self.answer_seconds + wait_seconds
        with _clear_errors(self.address):
            async with asyncio.timeout(seconds):
                return await self.http.request(method, API + path, json=body, timeout=seconds)


@contextmanager
def _clear_errors(address: str) -> Iterator[None]:
    try:
        yield
    except (TimeoutError, httpx.TimeoutException):
        raise StepFailed(f"{address} took the request and did not answer in time: is the process stuck?") from None
    except (httpx.InvalidURL, httpx.UnsupportedProtocol):
        raise StepFailed(f"{address} is not a URL: check --base-url") from None
    except httpx.ConnectError as error:
        raise StepFailed(f"{address} cannot be reached ({error}): check --base-url and that the API runs") from None
    except httpx.HTTPError as error:
        raise StepFailed(f"{address} broke off ({error}): is it this API?") from None


def read_object(response: httpx.Response) -> dict[str, Any]:
    """Return the JSON object that an answer holds.

    Raises:
        StepFailed: it holds none.
    """
    try:
        body = response.json()
    except ValueError:
        raise StepFailed(f"it answered {response.status_code} without JSON: is --base-url this API?") from None
    if not isinstance(body, dict):
        raise StepFailed(f"it answered {response.status_code} without an object: is --base-url this API?")
    return body


def why(response: httpx.Response) -> str:
    """Return the status of a refusal and what it says of itself."""
    try:
        return f"{response.status_code}, {read_object(response).get('detail', response.reason_phrase)}"
    except StepFailed as error:
        return str(error)
