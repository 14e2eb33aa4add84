"""The bytes of OpenAI-compatible servers, and what becomes of them: for the tests of ``docs/models.md``."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.fakes.behaviours import Behaviour, plain
from tests.fakes.model_server import ModelServer
from tests.llm.assignments import an_assignment
from vm_webapp.llm.errors import LLMError
from vm_webapp.llm.kimi import KimiProvider

DONE = b"data: [DONE]\n\n"
WHOLE = "# Plan\n\nWeek 1: we bake.\n"


def text(content: object) -> bytes:
    """A chunk with a piece of the text."""
    return b"data: " + json.dumps({"choices": [{"delta": {"content": content}}]}).encode() + b"\n\n"


def finish(reason: str | None) -> bytes:
    """The chunk with the finish reason."""
    return b"data: " + json.dumps({"choices": [{"delta": {}, "finish_reason": reason}]}).encode() + b"\n\n"


def stream(*parts: bytes) -> Behaviour:
    """A response that streams these bytes."""
    return plain(200, b"".join(parts), "text/event-stream")


def said(message: str, **more: object) -> dict[str, Any]:
    """The body of an error."""
    return {"error": {"message": message, "type": "invalid_request_error", **more}}


async def failure(server: ModelServer, kimi: KimiProvider, *behaviours: Behaviour) -> LLMError:
    """Call the model, and return the error with which the call fails."""
    server.enqueue(*behaviours)
    with pytest.raises(LLMError) as raised:
        await kimi.complete(an_assignment())
    return raised.value
