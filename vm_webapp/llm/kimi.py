"""Calls Kimi, or any other server with OpenAI's chat completions API: streamed, and canceled at once when asked."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from dataclasses import replace
from typing import Any

import aiohttp

from vm_webapp import __version__
from vm_webapp.llm.base import Assignment, Completion, PartialCompletion
from vm_webapp.llm.completion_stream import CompletionStream
from vm_webapp.llm.connections import Connections, is_unconnected, words_of
from vm_webapp.llm.cut_prompt import note_on_prompt
from vm_webapp.llm.errors import LLMConnectionError, LLMError, LLMNotFound
from vm_webapp.llm.key_mask import KeyMask, MaskedStream
from vm_webapp.llm.kimi_errors import classify, one_line
from vm_webapp.llm.request_shape import RequestShape
from vm_webapp.proxies import UnusableProxy, proxy_secrets
from vm_webapp.sse import EventReader, ServerEvent

log = logging.getLogger(__name__)

ERROR_BODY_BYTES = 65_536
ERROR_BODY_SECONDS = 5.0
# After the finish reason only token counts and ``[DONE]`` can come; some servers hold the connection open instead.
AFTER_FINISH_SECONDS = 3.0
AFTER_DONE_SECONDS = 0.2  # after ``[DONE]`` only the end of the body can come, and mostly has come with it
MOST_ADAPTATIONS = 3
ENDPOINT = "/chat/completions"


class KimiProvider:
    """A client of one server with one key.

    Args:
        api_key: sent as the bearer token, never shown.
        base_url: the server, up to and with ``/v1``; an address with ``/chat/completions`` is taken, too.
        model: the model's name.
        max_tokens: the largest budget of a call, in tokens; None for that of each stage.
        context_tokens: the model's context, in tokens, for prompt and budget together; None for one that is unknown.
    """

    name = "kimi"

    def __init__(
        self,
        *,
        api_key: str,
        base_url: str,
        model: str,
        max_tokens: int | None = None,
        context_tokens: int | None = None,
    ) -> None:
        self.model: str | None = model
        self._mask = KeyMask(api_key, *proxy_secrets())
        self._shape = RequestShape(most_tokens=max_tokens)
        self._context_tokens = context_tokens
        # People paste the whole address from a server's documentation.
        url = f"{base_url.rstrip('/').removesuffix(ENDPOINT).rstrip('/')}{ENDPOINT}"
        headers = {
            "Authorization": f"Bearer {api_key}",
            # The real name: Kimi's coding endpoint admits only listed clients, and we do not imitate one.
            "User-Agent": f"vm-webapp/{__version__}",
            "Accept": "text/event-stream, application/json",
            "Accept-Encoding": "gzip, deflate",
            "Content-Type": "application/json",
        }
        self._connections = Connections(url, headers)

    async def complete(self, assignment: Assignment, *, on_text: Callable[[str], None] | None = None) -> Completion:
        """Write one artifact. See ``Provider.complete``."""
        stream = CompletionStream()
        try:
            async with self._accepted(assignment) as response:
                await self._read(response, stream, on_text)
            completion = self._without_key(stream.completion(self.name, self.model))
            return replace(completion, note=note_on_prompt(assignment, completion.prompt_tokens))
        except aiohttp.InvalidURL as error:
            raise LLMNotFound(f"KIMI_BASE_URL cannot be called: {one_line(words_of(error))}") from error
        except (aiohttp.ClientError, UnusableProxy) as error:
            broken = LLMConnectionError(self._mask.hide_in_error(self._broken(error)))
            broken.partial = self._partial(stream)
            raise broken from error
        except LLMError as error:
            # A server may echo the key in its error message, and the message is stored on the timeline.
            error.args = (self._mask.hide_in_error(str(error)),)
            error.partial = self._partial(stream)
            raise

    async def aclose(self) -> None:
        """Close the connections."""
        await self._connections.aclose()

    @contextlib.asynccontextmanager
    async def _accepted(self, assignment: Assignment) -> AsyncIterator[aiohttp.ClientResponse]:
        """Send the request, in the shape that the server takes, and yield the response with status 200."""
        shape, adaptations = self._shape, 0
        while True:
            # Kimi fixes temperature, top_p, n and the penalties, and responds 400 to a request that sets one of them.
            body = shape.body(self.model, assignment, context_tokens=self._context_tokens)
            async with self._connections.post(_as_json(body)) as response:
                if response.status == 200:
                    yield response
                    return
                refusal = await _error_body(response)
                error = classify(response.status, response.headers, refusal, now=time.time())
            text = refusal.decode(errors="replace")
            if response.status not in (400, 413, 422) or adaptations == MOST_ADAPTATIONS:
                raise error
            adaptations += 1
            sent = body[shape.budget_name]
            if adapted := shape.adapted(text, sent):
                log.info("llm.adapted", extra={"server": self._connections.host, "shape": str(adapted)})
                self._shape = shape = adapted
            elif fitted := shape.fitted(text, sent):
                shape = fitted
            else:
                raise error

    async def _read(
        self, response: aiohttp.ClientResponse, stream: CompletionStream, on_text: Callable[[str], None] | None
    ) -> None:
        chunks = _chunks_of(response)
        shown = MaskedStream(self._mask)
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(None) as until, contextlib.aclosing(chunks):
                async for event in chunks:
                    if event.data.strip() == "[DONE]":
                        await _read_to_end(chunks)
                        return
                    text = shown.add(stream.add(event.data, event_type=event.type))
                    if on_text is not None:
                        on_text(text)
                    if stream.is_finished and until.when() is None:
                        until.reschedule(loop.time() + AFTER_FINISH_SECONDS)
        except (TimeoutError, aiohttp.ClientError, LLMError):
            # What goes wrong after the text is finished takes nothing away from it.
            if not stream.is_finished:
                raise
        finally:
            if on_text is not None and (rest := shown.rest()):
                on_text(rest)

    def _broken(self, error: aiohttp.ClientError | UnusableProxy) -> str:
        host = self._connections.host
        if isinstance(error, UnusableProxy):
            return f"no connection to {host}: {error}"
        what = f"no connection to {host}" if is_unconnected(error) else f"the connection to {host} broke"
        return f"{what}: {one_line(words_of(error))}"

    def _without_key(self, completion: Completion) -> Completion:
        model = None if completion.model is None else self._mask.hide_in_text(completion.model)
        return replace(completion, text=self._mask.hide_in_text(completion.text), model=model)

    def _partial(self, stream: CompletionStream) -> PartialCompletion:
        partial = stream.partial()
        return replace(partial, text=self._mask.hide_in_text(partial.text))


def _as_json(body: Mapping[str, Any]) -> bytes:
    return json.dumps(body, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode()


async def _chunks_of(response: aiohttp.ClientResponse) -> AsyncGenerator[ServerEvent, None]:
    """Yield the chunks of a stream; a server that does not stream sends a single one, the whole completion."""
    kind = response.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind == "text/html":
        raise LLMNotFound("the server responded with a web page; check KIMI_BASE_URL")
    received = response.content.iter_any()
    beginning = b""
    async for some in received:
        # Some servers send blank lines before a completion that takes long.
        if beginning := (beginning + some).lstrip():
            break
    # By the first byte rather than by the content type, which servers and proxies get wrong in both directions.
    if beginning.startswith((b"{", b"[")):
        yield ServerEvent(
            "message", b"".join([beginning, *[some async for some in received]]).decode(errors="replace"), ""
        )
        return
    async for event in EventReader().read(_joined(beginning, received)):
        yield event


async def _read_to_end(chunks: AsyncIterator[ServerEvent]) -> None:
    """Read what is left of a body: only a connection whose response was read to its end can be used again."""
    with contextlib.suppress(TimeoutError, aiohttp.ClientError):
        async with asyncio.timeout(AFTER_DONE_SECONDS):
            async for _ in chunks:
                pass


async def _joined(beginning: bytes, rest: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    yield beginning
    async for some in rest:
        yield some


async def _error_body(response: aiohttp.ClientResponse) -> bytes:
    async def read(chunks: AsyncIterator[bytes]) -> None:
        async for chunk in chunks:
            body.extend(chunk)
            if len(body) >= ERROR_BODY_BYTES:
                return

    body = bytearray()
    # The part that arrives is enough to classify the error; a body that stalls must not use up the call's deadline.
    with contextlib.suppress(TimeoutError, aiohttp.ClientError):
        await asyncio.wait_for(read(response.content.iter_any()), ERROR_BODY_SECONDS)
    return bytes(body[:ERROR_BODY_BYTES])
