"""The API as the command line talks to it: one line for whatever goes wrong."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import httpx

from vm_webapp.errors import ConfigurationError, VMError
from vm_webapp.llm.sse import event_data

API = "/api/v2"


class Refused(VMError):
    """The API refused; the text is its own.

    Attributes:
        code: the last part of the problem's type.
    """

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(detail)
        self.code = code


class ApiClient:
    """Calls of one API.

    Args:
        http: a client whose base URL is the API's address.
    """

    def __init__(self, http: httpx.AsyncClient) -> None:
        self._http = http

    async def get(self, path: str, **params: Any) -> dict[str, Any]:
        """GET a path below ``/api/v2``. Raises as ``post``."""
        return await self._call("GET", path, params=params)

    async def post(self, path: str, body: dict[str, Any] | None) -> dict[str, Any]:
        """POST a body, None for none, to a path below ``/api/v2``.

        Raises:
            ConfigurationError: the API cannot be reached, is none, or does not let us in.
            Refused: it refused.
        """
        return await self._call("POST", path, json=body)

    async def text(self, path: str) -> str:
        """Return a document. Raises as ``post``."""
        response = await self._send("GET", path)
        if not response.is_success:
            self._object(response)
        return response.text

    async def events(self, run_id: str) -> AsyncIterator[dict[str, Any]]:
        """Yield what is told of a run as it happens, until its end or until the connection breaks."""
        headers = {"Accept": "text/event-stream"}
        try:
            async with self._http.stream(
                "GET", f"{API}/runs/{run_id}/events", headers=headers, timeout=httpx.Timeout(10, read=60)
            ) as response:
                async for data in event_data(response.aiter_bytes()):
                    yield json.loads(data)
        except httpx.HTTPError:
            return

    async def _call(self, method: str, path: str, **options: Any) -> dict[str, Any]:
        return self._object(await self._send(method, path, **options))

    async def _send(self, method: str, path: str, **options: Any) -> httpx.Response:
        try:
            return await self._http.request(method, API + path, **options)
        except (httpx.InvalidURL, httpx.UnsupportedProtocol) as error:
            raise ConfigurationError(f"--base-url is not a URL: {error}") from error
        except httpx.HTTPError as error:
            raise ConfigurationError(f"the API at {self._address} does not answer: {error}") from error

    def _object(self, response: httpx.Response) -> dict[str, Any]:
        try:
            body = response.json()
        except ValueError as error:
            raise ConfigurationError(f"{self._address} is not this API: it answered no JSON") from error
        if not isinstance(body, dict):
            raise ConfigurationError(f"{self._address} is not this API: it answered no object")
        if response.is_success:
            return body
        detail = str(body.get("detail", response.reason_phrase))
        if response.status_code in (401, 403):
            raise ConfigurationError(detail)
        raise Refused(str(body.get("type", "")).rpartition("/")[2], detail)

    @property
    def _address(self) -> str:
        return str(self._http.base_url).rstrip("/")
