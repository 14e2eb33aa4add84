"""Calls Kimi, or any other server with OpenAI's chat completions API: streamed, and canceled at once when asked."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import httpx

from vm_webapp import __version__
from vm_webapp.llm.base import Assignment, Completion
from vm_webapp.llm.completion_stream import CompletionStream
from vm_webapp.llm.errors import LLMConnectionError, LLMError, LLMNotFound, LLMProtocolError
from vm_webapp.llm.kimi_errors import classify, one_line
from vm_webapp.sse import event_data

ERROR_BODY_BYTES = 65_536
ERROR_BODY_SECONDS = 5.0
NEVER_CONNECTED = (httpx.ConnectError, httpx.ConnectTimeout)


class KimiProvider:
    """A client of one server with one key.

    Args:
        api_key: sent as the bearer token, never shown.
        base_url: the server, up to and with ``/v1``.
        model: the model's name.
    """

    name = "kimi"

    def __init__(self, *, api_key: str, base_url: str, model: str) -> None:
        self.model: str | None = model
        self._key = api_key
        self._url = f"{base_url.rstrip('/')}/chat/completions"
        # A reasoning model may be silent for minutes: the caller's deadline ends a call, not a read time-out.
        self._client = httpx.AsyncClient(
            timeout=httpx.Timeout(None, connect=10.0, write=30.0),
            # No limit on connections: the number of threads already limits calls, and a call that waited for a
            # connection here would use up its own deadline.
            limits=httpx.Limits(max_keepalive_connections=20),
            headers={
                "Authorization": f"Bearer {api_key}",
                # The real name: Kimi's coding endpoint admits only listed clients, and we do not imitate one.
                "User-Agent": f"vm-webapp/{__version__}",
                "Accept": "text/event-stream, application/json",
            },
        )

    async def complete(self, assignment: Assignment, *, on_text: Callable[[str], None] | None = None) -> Completion:
        """Write one artifact. See ``Provider.complete``."""
        try:
            async with self._client.stream("POST", self._url, json=self._body(assignment)) as response:
                if response.status_code != 200:
                    body = await _error_body(response)
                    raise classify(response.status_code, response.headers, body, now=time.time())
                stream = await self._read(response, on_text)
            return stream.completion(self.name, self.model)
        except (httpx.UnsupportedProtocol, httpx.InvalidURL) as error:
            raise LLMNotFound(f"KIMI_BASE_URL cannot be called: {one_line(str(error))}") from error
        except httpx.HTTPError as error:
            raise LLMConnectionError(self._without_key(self._broken(error))) from error
        except LLMError as error:
            # A server may echo the key in its error message, and the message is stored on the timeline.
            error.args = (self._without_key(str(error)),)
            raise

    async def aclose(self) -> None:
        """Close the connections."""
        await self._client.aclose()

    def _body(self, assignment: Assignment) -> dict[str, Any]:
        # Kimi fixes temperature, top_p, n and the penalties, and responds 400 to a request that sets one of them.
        return {
            "model": self.model,
            "messages": [
                {"role": "system", "content": assignment.system},
                {"role": "user", "content": assignment.user},
            ],
            "max_tokens": assignment.max_tokens,
            "stream": True,
            "stream_options": {"include_usage": True},
        }

    async def _read(self, response: httpx.Response, on_text: Callable[[str], None] | None) -> CompletionStream:
        stream = CompletionStream()
        async for data in _chunks_of(response):
            if data.strip() == "[DONE]":
                stream.done = True
                break
            text = stream.add(data)
            if on_text is not None:
                on_text(text)
        # Some servers leave out ``[DONE]``: a finish reason is as good a sign that nothing is missing.
        if not stream.done and stream.finish_reason is None:
            raise LLMConnectionError("the stream broke off before the completion was finished")
        return stream

    def _broken(self, error: httpx.HTTPError) -> str:
        host = httpx.URL(self._url).host
        what = f"no connection to {host}" if isinstance(error, NEVER_CONNECTED) else f"the connection to {host} broke"
        return f"{what}: {one_line(str(error)) or type(error).__name__}"

    def _without_key(self, text: str) -> str:
        return text.replace(self._key, "[key]")


async def _chunks_of(response: httpx.Response) -> AsyncIterator[str]:
    """Yield the chunks of a stream; a server that does not stream sends a single one, the whole completion."""
    kind = response.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind == "text/html":
        raise LLMProtocolError("the server responded with a web page; check KIMI_BASE_URL")
    if kind == "application/json":
        yield (await response.aread()).decode(errors="replace")
        yield "[DONE]"
        return
    async for data in event_data(response.aiter_bytes()):
        yield data


async def _error_body(response: httpx.Response) -> bytes:
    async def read(chunks: AsyncIterator[bytes]) -> None:
        async for chunk in chunks:
            body.extend(chunk)
            if len(body) >= ERROR_BODY_BYTES:
                return

    body = bytearray()
    # The part that arrives is enough to classify the error; a body that stalls must not use up the call's deadline.
    with contextlib.suppress(TimeoutError, httpx.HTTPError):
        await asyncio.wait_for(read(response.aiter_bytes()), ERROR_BODY_SECONDS)
    return bytes(body[:ERROR_BODY_BYTES])
