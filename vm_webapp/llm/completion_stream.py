"""Builds a completion from the chunks of a stream, or from one whole completion object."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

from vm_webapp.llm.base import Completion
from vm_webapp.llm.errors import LLMEmptyCompletion, LLMProtocolError
from vm_webapp.llm.kimi_errors import classify_in_stream, one_line
from vm_webapp.text import storable

MAX_TOKEN_COUNT = 2**31 - 1  # the columns are ``integer``
TRUNCATION_REASONS = {
    "length": "reasoning used up the token budget",
    "content_filter": "a content filter removed the text",
}


@dataclass
class CompletionStream:
    """What a model has sent so far.

    Attributes:
        finish_reason: why the model stopped, None while it has not said.
        done: the server said that nothing more comes.
    """

    finish_reason: str | None = None
    done: bool = False
    _pieces: list[str] = field(default_factory=list)
    _model: str | None = None
    _usage: dict[str, Any] = field(default_factory=dict)

    def add(self, data: str) -> str:
        """Add a chunk of the stream, or a whole completion object, and return the text in it.

        Raises:
            LLMError: the data holds an error object, or is not a chat completion.
        """
        chunk = _read_object(data)
        # An OpenAI-compatible server that has already sent status 200 can report a failure only as a chunk.
        if error := chunk.get("error"):
            raise classify_in_stream(error)
        self._model = _text(chunk.get("model")) or self._model
        # The chunk with the usage comes last and its ``choices`` is empty; earlier chunks may say ``"usage": null``.
        self._usage = _object(chunk.get("usage")) or self._usage
        text = "".join(self._add_choice(choice) for choice in chunk.get("choices") or ())
        if text:
            self._pieces.append(text)
        return text

    def completion(self, provider: str, requested_model: str | None) -> Completion:
        """Return the completion.

        Args:
            provider: the provider's name.
            requested_model: the model to record where the server named none.

        Raises:
            LLMEmptyCompletion: there is no text.
        """
        text = storable("".join(self._pieces))
        # Reasoning counts toward ``max_tokens``, so a budget that is too small gives status 200 and no text.
        if not text.strip():
            reason = TRUNCATION_REASONS.get(self.finish_reason or "", "no reason given")
            raise LLMEmptyCompletion(f"the model returned no text: {reason}")
        return Completion(
            text=text,
            provider=provider,
            model=one_line(self._model or "") or requested_model,
            prompt_tokens=_count(self._usage.get("prompt_tokens")),
            completion_tokens=_count(self._usage.get("completion_tokens")),
            truncated=self.finish_reason in TRUNCATION_REASONS,
        )

    def _add_choice(self, choice: dict[str, Any]) -> str:
        # Kimi may put the usage into the choice instead of the chunk.
        self._usage = _object(choice.get("usage")) or self._usage
        self.finish_reason = _text(choice.get("finish_reason")) or self.finish_reason
        # Reasoning comes in ``reasoning_content`` and is not part of the artifact.
        return _text((_object(choice.get("delta")) or _object(choice.get("message"))).get("content"))


def _read_object(data: str) -> dict[str, Any]:
    try:
        chunk = json.loads(data)
    except (ValueError, RecursionError):  # RecursionError: deeply nested brackets
        raise LLMProtocolError(f"the server sent something that is not JSON: {one_line(data, longest=80)}") from None
    if isinstance(chunk, dict):
        choices = chunk.get("choices") or []
        if isinstance(choices, list) and all(isinstance(choice, dict) for choice in choices):
            return chunk
    raise LLMProtocolError("the server sent JSON that is no chat completion")


def _object(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _text(value: object) -> str:
    if value is None:
        return ""
    if not isinstance(value, str):
        raise LLMProtocolError(f"the server sent {type(value).__name__} where a chat completion has text")
    return value


def _count(value: object) -> int | None:
    """Return a number of tokens that fits its column, None for anything else."""
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= MAX_TOKEN_COUNT else None
