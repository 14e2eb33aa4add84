"""HTTP to the API: the only place that speaks it, and that knows how it fails."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Mapping
from contextlib import contextmanager
from typing import Any
from urllib.parse import quote

import httpx

from vm_webapp.client.answers import Answer
from vm_webapp.client.errors import BadAddress, BrokenOff, TimedOut, Unreachable, error_of
from vm_webapp.errors import ConfigurationError
from vm_webapp.sse import EventReader, ServerEvent

API = "/api/v2"
ANSWER_SECONDS = 60.0
CONNECT_SECONDS = 10.0
DOTS = {".": "%2E", "..": "%2E%2E"}  # which would otherwise lead elsewhere
SILENCE_SECONDS = 60.0  # of a stream, which breaks its silence every 15 s


def open_http(base_url: str, *, trust_env: bool) -> httpx.AsyncClient:
    """Return a client of an address, to be closed by the caller; nothing is connected yet.

    Args:
        base_url: the address.
        trust_env: whether the proxies of the environment are used.

    Raises:
        ConfigurationError: the address is none, or the variables that name a proxy are wrong.
    """
    try:
        url = httpx.URL(base_url)
    except httpx.InvalidURL as error:
        raise BadAddress(error) from error
    try:
        return httpx.AsyncClient(base_url=url, trust_env=trust_env)
    except (httpx.InvalidURL, ValueError, ImportError) as error:
        # The text may hold the proxy's password; and a SOCKS proxy needs a package that we do not bring along.
        raise ConfigurationError("HTTP_PROXY, HTTPS_PROXY and ALL_PROXY must be http:// or https:// URLs") from error


def path_of(*segments: str) -> str:
    """Return the path below ``/api/v2`` with these segments, in which a name is a name and never a way elsewhere."""
    return "".join(f"/{DOTS.get(segment) or quote(segment, safe='')}" for segment in segments)


class Connection:
    """The way to one API.

    Args:
        http: a client whose base URL is the API's address.
        answer_seconds: how long a whole answer may take.
    """

    def __init__(self, http: httpx.AsyncClient, *, answer_seconds: float) -> None:
        self._http = http
        self._answer_seconds = answer_seconds

    @property
    def address(self) -> str:
        """The API's address, for messages."""
        return str(self._http.base_url).rstrip("/")

    def use_token(self, token: str) -> None:
        """Send a bearer token from now on."""
        self._http.headers["Authorization"] = f"Bearer {token}"

    async def get(
        self, path: str, params: Mapping[str, Any] | None = None, *, wait_seconds: float = 0
    ) -> dict[str, Any]:
        """GET an object. Raises as ``post``.

        Args:
            path: below ``/api/v2``.
            params: the query; what is None is left out.
            wait_seconds: how much longer than usual the answer may take, because the request says so.
        """
        return self._object(await self.send("GET", path, params=params, wait_seconds=wait_seconds))

    async def post(self, path: str, body: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """POST a body, None for none, to a path below ``/api/v2``, and return the object that is answered.

        Raises:
            Unanswered: the API cannot be reached now, or does not answer in time.
            Refused: it refused.
            ConfigurationError: whatever answers is not this API, or does not let us in.
        """
        return self._object(await self.send("POST", path, body=body))

    async def items(self, path: str, *, limit: int, position: str) -> AsyncIterator[dict[str, Any]]:
        """Yield what a listing holds, page after page. Raises as ``post``.

        Args:
            path: below ``/api/v2``.
            limit: how many a page has.
            position: the parameter that takes a page's ``next_cursor`` to the page behind it.
        """
        cursor: str | None = None
        while True:
            page = await self.get(path, {"limit": limit, position: cursor})
            for item in page["items"]:
                yield item
            # One that does not move on would be asked for ever.
            if page.get("next_cursor") in (None, cursor):
                return
            cursor = page["next_cursor"]

    async def content(self, path: str, params: Mapping[str, Any] | None = None) -> bytes:
        """GET a document. Raises as ``post``."""
        answer = await self.send("GET", path, params=params)
        if not answer.ok:
            raise error_of(answer, self.address)
        return answer.content

    async def events(self, path: str, reader: EventReader) -> AsyncGenerator[ServerEvent, None]:
        """Yield the events of a stream behind those that its reader has seen, until the server ends it.

        Raises:
            ApiError: it was refused, or it broke off.
        """
        seen = {"Last-Event-ID": reader.last_id} if reader.last_id else {}
        headers = httpx.Headers({"Accept": "text/event-stream", **seen}, encoding="utf-8")
        timeout = httpx.Timeout(CONNECT_SECONDS, read=SILENCE_SECONDS)
        with self._clear_errors(SILENCE_SECONDS):
            async with self._http.stream("GET", API + path, headers=headers, timeout=timeout) as response:
                if response.status_code == 204 and reader.last_id:  # nothing is left to tell
                    return
                if response.status_code != 200:
                    await response.aread()
                    raise error_of(_answer(f"GET {path}", response), self.address)
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
    ) -> Answer:
        """Return the answer, whatever it is.

        Raises:
            Unanswered: there was none in time.
            BadAddress: the address is none.
        """
        seconds = self._answer_seconds + wait_seconds
        given = {name: value for name, value in (params or {}).items() if value is not None}
        with self._clear_errors(seconds):
            async with asyncio.timeout(seconds):
                response = await self._http.request(method, API + path, params=given, json=body, timeout=seconds)
        return _answer(f"{method} {path}", response)

    def _object(self, answer: Answer) -> dict[str, Any]:
        if not answer.ok or answer.lacks:
            raise error_of(answer, self.address)
        return answer.fields

    @contextmanager
    def _clear_errors(self, seconds: float) -> Iterator[None]:
        try:
            yield
        except (httpx.InvalidURL, httpx.UnsupportedProtocol) as error:
            raise BadAddress(error) from error
        except (TimeoutError, httpx.TimeoutException) as error:
            raise TimedOut(f"the API at {self.address} does not answer within {seconds:g} s") from error
        except httpx.HTTPError as error:
            kind = Unreachable if isinstance(error, httpx.ConnectError) else BrokenOff
            reason = str(error) or type(error).__name__
            raise kind(f"the API at {self.address} does not answer: {reason}", said=str(error)) from error


def _answer(asked: str, response: httpx.Response) -> Answer:
    return Answer(asked, response.status_code, response.reason_phrase, response.content)
