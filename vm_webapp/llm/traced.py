"""Makes a span of each model call, by OpenTelemetry's conventions for generative AI; only where traces are recorded.

Neither prompt nor text is in a span. Source: https://opentelemetry.io/docs/specs/semconv/gen-ai/gen-ai-spans/
"""

from __future__ import annotations

from collections.abc import Callable
from urllib.parse import urlsplit

from vm_webapp.errors import VMError
from vm_webapp.llm.base import Assignment, Completion, Provider
from vm_webapp.tracing.spans import Kind, Span, Value, current_span, working_on

HTTPS_PORT, HTTP_PORT = 443, 80


class TracedProvider:
    """Another provider whose calls are spans, children of the span that the calling thread works on.

    Args:
        provider: the provider to call.
        base_url: where it calls its model.
    """

    def __init__(self, provider: Provider, base_url: str) -> None:
        self._provider = provider
        address = urlsplit(base_url)
        self._attributes: dict[str, Value] = {
            "gen_ai.operation.name": "chat",
            "gen_ai.provider.name": provider.name,
            "gen_ai.request.model": provider.model or "",
            "server.address": address.hostname or "",
            "server.port": address.port or (HTTPS_PORT if address.scheme == "https" else HTTP_PORT),
        }

    @property
    def name(self) -> str:
        """The provider's name."""
        return self._provider.name

    @property
    def model(self) -> str | None:
        """The model that calls request."""
        return self._provider.model

    async def complete(self, assignment: Assignment, *, on_text: Callable[[str], None] | None = None) -> Completion:
        """Write one artifact. See ``Provider.complete``."""
        parent = current_span()
        if parent is None:
            return await self._provider.complete(assignment, on_text=on_text)
        span = parent.child(f"chat {self.model}", Kind.CLIENT, dict(self._attributes))
        with working_on(span):
            try:
                completion = await self._provider.complete(assignment, on_text=on_text)
            except VMError as error:
                span.error = error.code
                raise
            _note(span, completion)
            return completion

    async def aclose(self) -> None:
        """Close the provider's connections."""
        await self._provider.aclose()


def _note(span: Span, completion: Completion) -> None:
    found = {
        "gen_ai.response.model": completion.model,
        "gen_ai.usage.input_tokens": completion.prompt_tokens,
        "gen_ai.usage.output_tokens": completion.completion_tokens,
    }
    span.attributes |= {name: value for name, value in found.items() if value is not None}
