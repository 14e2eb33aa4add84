"""Kimi, or any server that speaks OpenAI's chat completions: streamed, patient, and quick to let go."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any

import httpx

from vm_webapp import __version__
from vm_webapp.llm.base import Assignment, Completion
from vm_webapp.llm.errors import LLMConnectionError, LLMEmptyAnswer, LLMError, LLMNotFound, LLMProtocolError
from vm_webapp.llm.kimi_errors import classify, classify_in_stream, one_line
from vm_webapp.llm.sse import event_data

ERROR_BODY_BYTES = 65_536
ERROR_BODY_SECONDS = 5.0


@dataclass
class _Answer:
    """What has come of an answer so far."""

    pieces: list[str] = field(default_factory=list)
    finish_reason: str | None = None
    model: str | None = None
    usage: dict[str, Any] = field(default_factory=dict)
    done: bool = False


class KimiProvider:
    """A client of one server with one key.

    Args:
        api_key: sent as the bearer token, shown nowhere.
        base_url: the server, up to and with ``/v1``.
        model: the model's name.
        max_connections: calls that may be in flight at a time.
    """

    name = "kimi"

    def __init__(self, *, api_key: str, base_url: str, model: str, max_connections: int = 100) -> None:
        self.model: str | None = model
        self._key = api_key
        self._url = f"{base_url.rstrip('/')}/chat/completions"
        # A reasoning model may be silent for minutes: the caller's deadline ends a call, not a read time-out.
        self._client = httpx.AsyncClient(
            timeout=httpx.Timeout(None, connect=10.0, write=30.0),
            limits=httpx.Limits(max_connections=max_connections, max_keepalive_connections=20),
            headers={
                "Authorization": f"Bearer {api_key}",
                "User-Agent": f"vm-webapp/{__version__}",
                "Accept": "text/event-stream, application/json",
            },
        )

    async def complete(self, assignment: Assignment, *, on_text: Callable[[str], None] | None = None) -> Completion:
        """Write one document. See ``Provider.complete``."""
        try:
            async with self._client.stream("POST", self._url, json=self._body(assignment)) as response:
                if response.status_code != 200:
                    raise classify(response.status_code, response.headers, await _error_body(response))
                answer = await self._read(response, on_text)
        except (httpx.UnsupportedProtocol, httpx.InvalidURL) as error:
            raise LLMNotFound(f"KIMI_BASE_URL cannot be called: {one_line(str(error))}") from error
        except httpx.HTTPError as error:
            raise LLMConnectionError(self._redact(f"{_what(error)} {httpx.URL(self._url).host}: {error}")) from error
        except LLMError as error:
            error.args = (self._redact(str(error)),)
            raise
        return self._completion(answer)

    async def aclose(self) -> None:
        """Close the connections."""
        await self._client.aclose()

    def _body(self, assignment: Assignment) -> dict[str, Any]:
        # Temperature and its like are fixed on Kimi's side: naming them is an error there.
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

    async def _read(self, response: httpx.Response, on_text: Callable[[str], None] | None) -> _Answer:
        answer = _Answer()
        if response.headers.get("content-type", "").startswith("application/json"):
            _take(answer, _parse((await response.aread()).decode(errors="replace")), on_text)
            answer.done = True
            return answer
        async for data in event_data(response.aiter_bytes()):
            if data.strip() == "[DONE]":
                answer.done = True
                break
            _take(answer, _parse(data), on_text)
        if not answer.done and answer.finish_reason is None:
            raise LLMConnectionError("the stream broke off before the answer was whole")
        return answer

    def _completion(self, answer: _Answer) -> Completion:
        # PostgreSQL stores neither NUL nor lone surrogates.
        text = "".join(answer.pieces).replace("\x00", "").encode("utf-8", "replace").decode()
        if not text.strip():
            reasons = {
                "length": "reasoning used up the token budget",
                "content_filter": "a content filter removed the answer",
            }
            raise LLMEmptyAnswer(
                f"the model answered without text: {reasons.get(answer.finish_reason or '', 'no reason given')}"
            )
        return Completion(
            text=text,
            provider=self.name,
            model=answer.model or self.model,
            prompt_tokens=_count(answer.usage.get("prompt_tokens")),
            completion_tokens=_count(answer.usage.get("completion_tokens")),
            truncated=answer.finish_reason == "length",
        )

    def _redact(self, text: str) -> str:
        return one_line(text.replace(self._key, "[key]"))


def _take(answer: _Answer, chunk: dict[str, Any], on_text: Callable[[str], None] | None) -> None:
    """Add one chunk, or a whole completion, to the answer."""
    if chunk.get("error"):
        raise classify_in_stream(chunk["error"])
    answer.model = chunk.get("model") or answer.model
    answer.usage = chunk.get("usage") or answer.usage
    for choice in chunk.get("choices") or ():
        answer.usage = choice.get("usage") or answer.usage
        answer.finish_reason = choice.get("finish_reason") or answer.finish_reason
        text = (choice.get("delta") or choice.get("message") or {}).get("content")
        if text:
            answer.pieces.append(text)
            if on_text is not None:
                on_text(text)


def _parse(data: str) -> dict[str, Any]:
    try:
        chunk = json.loads(data)
    except ValueError:
        raise LLMProtocolError(f"the server sent something that is not JSON: {one_line(data)[:80]}") from None
    if not isinstance(chunk, dict) or not all(isinstance(c, dict) for c in chunk.get("choices") or ()):
        raise LLMProtocolError("the server sent JSON that is no chat completion")
    return chunk


async def _error_body(response: httpx.Response) -> bytes:
    async def read(chunks: AsyncIterator[bytes]) -> None:
        async for chunk in chunks:
            body.extend(chunk)
            if len(body) >= ERROR_BODY_BYTES:
                return

    body = bytearray()
    # What came before it broke off is enough to tell what it is.
    with contextlib.suppress(TimeoutError, httpx.HTTPError):
        await asyncio.wait_for(read(response.aiter_bytes()), ERROR_BODY_SECONDS)
    return bytes(body[:ERROR_BODY_BYTES])


def _what(error: httpx.HTTPError) -> str:
    if isinstance(error, httpx.ConnectError | httpx.ConnectTimeout):
        return "no connection to"
    return "the connection broke to"


def _count(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None
