"""An answer as it comes together from the chunks of a stream, or from one whole completion."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

from vm_webapp.llm.base import Completion
from vm_webapp.llm.errors import LLMEmptyAnswer, LLMProtocolError
from vm_webapp.llm.kimi_errors import classify_in_stream, one_line
from vm_webapp.text import storable

MOST_TOKENS = 2**31 - 1
CUT_SHORT = {
    "length": "reasoning used up the token budget",
    "content_filter": "a content filter removed the answer",
}


@dataclass
class Answer:
    """What has come of an answer so far.

    Attributes:
        finish_reason: why the model stopped, None while it has not said.
        done: the server said that nothing more comes.
    """

    finish_reason: str | None = None
    done: bool = False
    _pieces: list[str] = field(default_factory=list)
    _model: str | None = None
    _usage: dict[str, Any] = field(default_factory=dict)

    def take(self, data: str) -> str:
        """Add a chunk of the stream, or a whole completion, and return the text it brought.

        Raises:
            LLMError: the server reports an error within its answer, or sends what is no chat completion.
        """
        chunk = _read_object(data)
        if error := chunk.get("error"):
            raise classify_in_stream(error)
        self._model = _text(chunk.get("model")) or self._model
        self._usage = _object(chunk.get("usage")) or self._usage
        brought = "".join(self._take_choice(choice) for choice in chunk.get("choices") or ())
        if brought:
            self._pieces.append(brought)
        return brought

    def completion(self, provider: str, asked_for: str | None) -> Completion:
        """Return the whole document.

        Args:
            provider: the provider's name.
            asked_for: the model to name where the server named none.

        Raises:
            LLMEmptyAnswer: there is no text.
        """
        text = storable("".join(self._pieces))
        if not text.strip():
            reason = CUT_SHORT.get(self.finish_reason or "", "no reason given")
            raise LLMEmptyAnswer(f"the model answered without text: {reason}")
        return Completion(
            text=text,
            provider=provider,
            model=one_line(self._model or "") or asked_for,
            prompt_tokens=_count(self._usage.get("prompt_tokens")),
            completion_tokens=_count(self._usage.get("completion_tokens")),
            truncated=self.finish_reason in CUT_SHORT,
        )

    def _take_choice(self, choice: dict[str, Any]) -> str:
        self._usage = _object(choice.get("usage")) or self._usage
        self.finish_reason = _text(choice.get("finish_reason")) or self.finish_reason
        # Reasoning comes in ``reasoning_content`` and is no part of the document.
        return _text((_object(choice.get("delta")) or _object(choice.get("message"))).get("content"))


def _read_object(data: str) -> dict[str, Any]:
    try:
        chunk = json.loads(data)
    except (ValueError, RecursionError):
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
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= MOST_TOKENS else None
