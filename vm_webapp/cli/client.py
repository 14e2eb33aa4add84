"""The API as the command line talks to it: one line for whatever goes wrong."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import httpx

from vm_webapp.errors import ConfigurationError, VMError
from vm_webapp.sse import event_data

API = "/api/v2"
ANSWER_SECONDS = 60.0


class Unanswered(VMError):
    """The API cannot be reached now, or what stands before it answers in its place."""

    code = "unanswered"


class Refused(VMError):
    """The API refused; the text is its own.

    Attributes:
        code: the last part of the problem's type.
    """

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(detail)
        self.code = code


def open_client(base_url: str, token: str | None = None, *, trust_env: bool = True) -> httpx.AsyncClient:
    """Return a client of an address, to be closed by the caller; nothing is connected yet.

    Args:
        base_url: the address.
        token: sent as the bearer token.
        trust_env: whether the proxies of the environment are used.

    Raises:
        ConfigurationError: the address is none, or the variables that name a proxy are wrong.
    """
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    try:
        url = httpx.URL(base_url)
    except httpx.InvalidURL as error:
        raise ConfigurationError(f"--base-url is not a URL: {error}") from error
    try:
        return httpx.AsyncClient(base_url=url, headers=headers, timeout=ANSWER_SECONDS, trust_env=trust_env)
    except (httpx.InvalidURL, ValueError, ImportError) as error:
        # The text may hold the proxy's password; and a SOCKS proxy needs a package that we do not bring along.
        raise ConfigurationError("HTTP_PROXY, HTTPS_PROXY and ALL_PROXY must be http:// or https:// URLs") from error


class ApiClient:
    """Calls of one API.

    Args:
        http: a client whose base URL is the API's address.
        answer_seconds: how long a whole answer may take: a server that sends a byte now and then never times out.
    """

    def __init__(self, http: httpx.AsyncClient, *, answer_seconds: float = ANSWER_SECONDS) -> None:
        self._http = http
        self._answer_seconds = answer_seconds

    async def get(self, path: str, **params: Any) -> dict[str, Any]:
        """GET a path below ``/api/v2``. Raises as ``post``."""
        return await self._call("GET", path, params=params)

    async def post(self, path: str, body: dict[str, Any] | None) -> dict[str, Any]:
        """POST a body, None for none, to a path below ``/api/v2``.

        Raises:
            Unanswered: the API cannot be reached now, or does not answer in time.
            ConfigurationError: whatever answers is not this API, or does not let us in.
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
            async with asyncio.timeout(self._answer_seconds):
                return await self._http.request(method, API + path, **options)
        except (httpx.InvalidURL, httpx.UnsupportedProtocol) as error:
            raise ConfigurationError(f"--base-url is not a URL: {error}") from error
        except (TimeoutError, httpx.TimeoutException) as error:
            within = f"within {self._answer_seconds:g} s"
            raise Unanswered(f"the API at {self._address} does not answer {within}") from error
        except httpx.HTTPError as error:
            reason = str(error) or type(error).__name__
            raise Unanswered(f"the API at {self._address} does not answer: {reason}") from error

    def _object(self, response: httpx.Response) -> dict[str, Any]:
        body = self._read(response)
        if response.is_success:
            return body
        detail = str(body.get("detail", response.reason_phrase))
        if response.status_code in (401, 403):
            raise ConfigurationError(detail)
        raise Refused(str(body["type"]).rpartition("/")[2], detail)

    def _read(self, response: httpx.Response) -> dict[str, Any]:
        """Return an object if it is an answer of this API, as far as its form tells."""
        try:
            body = response.json()
        except ValueError:
            body = None
        if isinstance(body, dict) and (response.is_success or str(body.get("type", "")).startswith("/problems/")):
            return body
        status = f"{response.status_code} {response.reason_phrase}".rstrip()
        if response.status_code >= 500:
            raise Unanswered(f"the API at {self._address} does not answer: what stands before it says {status}")
        raise ConfigurationError(f"{self._address} is not this API: it answered {status}; check --base-url")

    @property
    def _address(self) -> str:
        return str(self._http.base_url).rstrip("/")
