"""HTTP to the API: what maps the errors of httpx to ours."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Mapping
from contextlib import contextmanager
from typing import Any
from urllib.parse import quote

import httpx

from vm_webapp.client.environment_proxies import EnvironmentProxies, RefusedProxy
from vm_webapp.client.errors import BadAddress, ConnectionBroken, TimedOut, Unreachable, error_of
from vm_webapp.client.responses import ApiResponse
from vm_webapp.errors import ConfigurationError
from vm_webapp.sse import EventReader, ServerEvent

API = "/api/v2"
TIMEOUT_SECONDS = 60.0
CONNECT_SECONDS = 10.0
DOTS = {".": "%2E", "..": "%2E%2E"}  # quote() keeps dots, and httpx resolves dot segments: "runs/.." would become ""
SILENCE_SECONDS = 60.0  # without a byte of a stream, to which the server sends a heartbeat every 15 s


def open_http(base_url: str, *, trust_env: bool) -> httpx.AsyncClient:
    """Return a client of an address, which the caller must close; it connects at the first call.

    Args:
        base_url: the address.
        trust_env: whether to use the proxies that the environment names.

    Raises:
        ConfigurationError: the address is not a URL.
    """
    try:
        url = httpx.URL(base_url)
    except httpx.InvalidURL as error:
        raise BadAddress(error) from error
    transport = EnvironmentProxies() if trust_env else None
    return httpx.AsyncClient(base_url=url, transport=transport, trust_env=False)


def path_of(*segments: str) -> str:
    """Return the path below ``/api/v2`` with these segments, each escaped so that it cannot lead to another path."""
    return "".join(f"/{DOTS.get(segment) or quote(segment, safe='')}" for segment in segments)


class Connection:
    """The connection to one API.

    Args:
        http: a client whose base URL is the API's address.
        timeout_seconds: how long a call may take, from the request to the response's last byte.
    """

    def __init__(self, http: httpx.AsyncClient, *, timeout_seconds: float) -> None:
        self._http = http
        self._timeout_seconds = timeout_seconds

    @property
    def address(self) -> str:
        """The API's address, without a slash at its end, for messages."""
        return str(self._http.base_url).rstrip("/")

    def use_token(self, token: str) -> None:
        """Send a bearer token with every subsequent request."""
        self._http.headers["Authorization"] = f"Bearer {token}"

    async def get(
        self, path: str, params: Mapping[str, Any] | None = None, *, wait_seconds: float = 0
    ) -> dict[str, Any]:
        """GET an object. Raises as ``post``.

        Args:
            path: below ``/api/v2``.
            params: the query; parameters that are None are omitted.
            wait_seconds: how much longer than usual the call may take, because it asks the server to wait.
        """
        return self._object(await self.send("GET", path, params=params, wait_seconds=wait_seconds))

    async def post(self, path: str, body: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """POST a body, or none for None, to a path below ``/api/v2``, and return the object in the response.

        Raises:
            NoResponse: the API cannot be reached now, or does not respond in time.
            Refused: the API refused the request.
            ConfigurationError: the address belongs to something else, the credentials are missing or wrong, or the API
                refused a value.
        """
        return self._object(await self.send("POST", path, body=body))

    async def items(self, path: str, *, limit: int, position: str) -> AsyncIterator[dict[str, Any]]:
        """Yield the items of a listing, page by page. Raises as ``post``.

        Args:
            path: below ``/api/v2``.
            limit: the number of items per page.
            position: the name of the parameter that takes the previous page's ``next_cursor``.
        """
        cursor: str | None = None
        while True:
            page = await self.get(path, {"limit": limit, position: cursor})
            for item in page["items"]:
                yield item
            # A server that returned the same cursor again would keep this loop running for ever.
            if page.get("next_cursor") in (None, cursor):
                return
            cursor = page["next_cursor"]

    async def content(self, path: str, params: Mapping[str, Any] | None = None) -> bytes:
        """GET a body that is not JSON. Raises as ``post``."""
        response = await self.send("GET", path, params=params)
        if not response.ok:
            raise error_of(response, self.address)
        return response.content

    async def events(self, path: str, reader: EventReader) -> AsyncGenerator[ServerEvent, None]:
        """Yield the events of a stream that its reader has not seen, until the server ends the stream.

        Raises:
            ApiError: the server refused the stream, or the connection broke.
        """
        seen = {"Last-Event-ID": reader.last_id} if reader.last_id else {}
        headers = httpx.Headers({"Accept": "text/event-stream", **seen}, encoding="utf-8")
        timeout = httpx.Timeout(CONNECT_SECONDS, read=SILENCE_SECONDS)
        with self._clear_errors(SILENCE_SECONDS) as extensions:
            request = self._http.stream("GET", API + path, headers=headers, timeout=timeout, extensions=extensions)
            async with request as response:
                # After the run's final event the server has nothing left to send. It cannot say so to a first request.
                if response.status_code == 204 and reader.last_id:
                    return
                if response.status_code != 200:
                    await response.aread()
                    raise error_of(_read(f"GET {path}", response), self.address)
                async for event in reader.read(response.aiter_bytes()):
                    yield event

    async def send(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, Any] | None = None,
        body: Mapping[str, Any] | None = None,
        wait_seconds: float = 0,
    ) -> ApiResponse:
        """Return the response, whatever its status.

        Raises:
            NoResponse: no response came in time.
            BadAddress: the address is not a URL.
        """
        seconds = self._timeout_seconds + wait_seconds
        given = {name: value for name, value in (params or {}).items() if value is not None}
        with self._clear_errors(seconds) as extensions:
            # httpx limits each read, not the whole call: a server that sends a byte now and then would never time out.
            async with asyncio.timeout(seconds):
                response = await self._http.request(
                    method, API + path, params=given, json=body, timeout=seconds, extensions=extensions
                )
        return _read(f"{method} {path}", response)

    def _object(self, response: ApiResponse) -> dict[str, Any]:
        if not response.ok or response.missing:
            raise error_of(response, self.address)
        return response.fields

    @contextmanager
    def _clear_errors(self, seconds: float) -> Iterator[dict[str, Any]]:
        """Map the errors of the block, which is one request with the extensions that are yielded."""
        opening = _Opening()
        try:
            yield {"trace": opening.note}
        except (httpx.InvalidURL, httpx.UnsupportedProtocol) as error:
            raise BadAddress(error) from error
        except RefusedProxy as error:
            raise ConfigurationError(str(error)) from error
        except (TimeoutError, httpx.TimeoutException) as error:
            if opening.unfinished:
                raise self._unreachable("no connection in time", error) from error
            raise TimedOut(f"the API at {self.address} does not respond within {seconds:g} s") from error
        except httpx.ConnectError as error:
            raise self._unreachable(str(error), error) from error
        except httpx.HTTPError as error:
            reason = str(error) or type(error).__name__
            raise ConnectionBroken(
                f"the API at {self.address} does not respond: {reason}", reason=str(error)
            ) from error

    def _unreachable(self, reason: str, error: Exception) -> Unreachable:
        return Unreachable(
            f"the API at {self.address} does not respond: {reason or type(error).__name__}", reason=reason
        )


class _Opening:
    """Tells from httpx's trace whether a request was still waiting for its connection when the time was over.

    The error does not tell: the whole call's limit ends a lookup of a name, too.

    Attributes:
        unfinished: whether the request has begun to open a connection and has none yet.
    """

    def __init__(self) -> None:
        self.unfinished = False

    async def note(self, event: str, info: Mapping[str, Any]) -> None:
        """Take an event of the trace, such as ``connection.connect_tcp.started``."""
        step, _, state = event.rpartition(".")
        if step.endswith((".connect_tcp", ".start_tls")):
            self.unfinished = state != "complete"


def _read(request: str, response: httpx.Response) -> ApiResponse:
    return ApiResponse(request, response.status_code, response.reason_phrase, response.content)
