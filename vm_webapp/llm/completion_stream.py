"""Builds a completion from the chunks of a stream, or from one whole completion object."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any, cast

from vm_webapp.llm.base import Completion, PartialCompletion
from vm_webapp.llm.errors import (
    LLMConnectionError,
    LLMContentFiltered,
    LLMEmptyCompletion,
    LLMError,
    LLMInterrupted,
    LLMProtocolError,
)
from vm_webapp.llm.fences import without_wrapper
from vm_webapp.llm.finish_reasons import Ending, worst_ending
from vm_webapp.llm.kimi_errors import classify_object, one_line
from vm_webapp.llm.thinking import ReasoningFilter, without_reasoning
from vm_webapp.text import storable

MAX_TOKEN_COUNT = 2**31 - 1  # the columns are ``integer``
# MiniMax' codes, by the HTTP status that other servers send.
MINIMAX_STATUS: dict[str, int | str] = {
    **dict.fromkeys(("1000", "1001", "1024", "1033"), 500),
    **dict.fromkeys(("1002", "1039"), 429),
    **dict.fromkeys(("1004", "2049"), 401),
    **dict.fromkeys(("1026", "1027"), "content_filter"),
}
TEXT_BLOCKS = frozenset({"text", "output_text"})
# Beside ``choices``, in a response with status 200: a chunk with neither of these is an error only if a choice is one.
ERROR_SIGNS = frozenset({"error", "x_groq", "base_resp"})
# In place of ``choices``. ``object`` alone proves nothing: good chunks have it, too.
ERROR_KEYS = ("message", "msg", "error_msg", "detail", "errors", "error_code")
NATIVE_REASONS = frozenset({"native_finish_reason", "provider_specific_fields", "incomplete_details"})


@dataclass
class CompletionStream:
    """What a model has sent so far."""

    _reasons: list[str] = field(default_factory=list)
    _native_reasons: list[str] = field(default_factory=list)
    _has_deltas: bool = False
    _pieces: list[str] = field(default_factory=list)
    _refusal: list[str] = field(default_factory=list)
    _shown: ReasoningFilter = field(default_factory=ReasoningFilter)
    _model: str | None = None
    _usage: dict[str, Any] = field(default_factory=dict)

    @property
    def is_finished(self) -> bool:
        """Whether the server has said that the text is at its end, and nothing worse."""
        return bool(self._reasons) and self._ending in ("whole", "truncated")  # it is asked for after each chunk

    @property
    def _ending(self) -> Ending:
        return worst_ending(self._reasons, self._native_reasons)

    def add(self, data: str, *, event_type: str = "message") -> str:
        """Add a chunk of the stream, or a whole completion object, and return the text in it, without reasoning.

        Args:
            data: JSON.
            event_type: the type of the server-sent event; some servers call a chunk with an error ``error``.

        Raises:
            LLMError: the data holds an error, or is not a chat completion.
        """
        chunk = _read_object(data)
        # A server that has already sent status 200 can report a failure only in the body.
        if (error := _error_in(chunk, event_type)) is not None:
            raise classify_object(error)
        self._model = _text(chunk.get("model")) or self._model
        # The chunk with the usage comes last and its ``choices`` is empty; earlier chunks may say ``"usage": null``.
        self._usage = _object(chunk.get("usage")) or self._usage
        # One choice was asked for; a server that sends several has written several texts.
        choices = (choice for choice in chunk.get("choices") or () if choice.get("index") in (None, 0))
        text = "".join(self._add_choice(choice) for choice in choices)
        if text:
            self._pieces.append(text)
        return self._shown.add(text) if text else ""

    def completion(self, provider: str, requested_model: str | None) -> Completion:
        """Return the completion, if the server said that it is one.

        Args:
            provider: the provider's name.
            requested_model: the model to record where the server named none.

        Raises:
            LLMError: there is no text, or nothing says that it is whole; ``partial`` holds what there is.
        """
        ending = self._ending
        if failure := self._failure(ending):
            raise failure
        text = without_wrapper(self._text(), truncated=ending == "truncated")
        # Reasoning counts toward ``max_tokens``, so a budget that is too small gives status 200 and no text.
        if not text.strip():
            raise LLMEmptyCompletion(f"the model returned no text: {self._why_empty(ending)}")
        return Completion(
            text=text,
            provider=provider,
            model=one_line(self._model or "") or requested_model,
            prompt_tokens=_count(self._usage.get("prompt_tokens")),
            completion_tokens=_count(self._usage.get("completion_tokens")),
            cached_tokens=_cached(self._usage),
            truncated=ending == "truncated",
        )

    def partial(self) -> PartialCompletion:
        """Return what there is of a completion that failed."""
        return PartialCompletion(
            text=self._text(),
            prompt_tokens=_count(self._usage.get("prompt_tokens")),
            completion_tokens=_count(self._usage.get("completion_tokens")),
            cached_tokens=_cached(self._usage),
        )

    def _failure(self, ending: Ending) -> LLMError | None:
        said = one_line(", ".join(dict.fromkeys((*self._reasons, *self._native_reasons))))
        if self._refusal and not self._text().strip():
            return LLMContentFiltered(f"the model refused: {one_line(''.join(self._refusal))}")
        if ending == "filtered":
            return LLMContentFiltered(f"a content filter stopped the text ({said}): change the request and try again")
        if ending == "interrupted":
            return LLMInterrupted(f"the server gave up while it wrote the text ({said})")
        if ending == "unusable":
            return LLMProtocolError(f"the model called a tool instead of writing ({said})")
        if ending == "missing":
            return LLMConnectionError("the stream broke off before the completion was finished")
        return None

    def _why_empty(self, ending: Ending) -> str:
        return "reasoning used up the token budget" if ending == "truncated" else "no reason given"

    def _text(self) -> str:
        return without_reasoning(storable("".join(self._pieces)))

    def _add_choice(self, choice: dict[str, Any]) -> str:
        # Kimi may put the usage into the choice instead of the chunk.
        self._usage = _object(choice.get("usage")) or self._usage
        if reason := _text(choice.get("finish_reason")):
            self._reasons.append(reason)
        self._native_reasons += _native_reasons(choice)
        delta = _object(choice.get("delta"))
        self._has_deltas = self._has_deltas or bool(_content(delta.get("content")))
        # Servers that pretend to stream send messages; others repeat the whole text in one after the last delta.
        message = delta or ({} if self._has_deltas else _object(choice.get("message")))
        if refusal := _text(message.get("refusal")):
            self._refusal.append(refusal)
        # Reasoning comes in ``reasoning_content``, ``reasoning`` or ``thinking`` and is not part of the artifact.
        return _content(message.get("content")) or _text(choice.get("text"))


def _error_in(chunk: dict[str, Any], event_type: str) -> object | None:
    is_named = event_type == "error" or chunk.get("object") == "error"
    if not is_named and "choices" in chunk and ERROR_SIGNS.isdisjoint(chunk):  # nearly every chunk
        return _error_of_a_choice(chunk)
    if error := chunk.get("error"):
        return chunk if isinstance(error, bool | str) else error
    if error := _object(chunk.get("x_groq")).get("error") or _error_of_a_choice(chunk):
        return error
    if is_named:
        return chunk
    status = _object(chunk.get("base_resp"))  # MiniMax, whose good chunks have it with a status code of 0
    if status.get("status_code"):
        code = status.get("status_code")
        return {"code": MINIMAX_STATUS.get(str(code), code), "message": status.get("status_msg")}
    if "choices" in chunk:
        return None
    return chunk if any(chunk.get(key) for key in ERROR_KEYS) else None


def _error_of_a_choice(chunk: dict[str, Any]) -> object | None:
    for choice in chunk.get("choices") or ():
        if error := choice.get("error"):
            return cast(object, error)
    return None


def _native_reasons(choice: dict[str, Any]) -> list[str]:
    """Return the upstream's own words, as OpenRouter and LiteLLM pass them on, and the Responses API's details."""
    if NATIVE_REASONS.isdisjoint(choice):
        return []
    native = (
        choice.get("native_finish_reason"),
        _object(choice.get("provider_specific_fields")).get("native_finish_reason"),
        _object(choice.get("incomplete_details")).get("reason"),
    )
    return [word for word in native if isinstance(word, str) and word]


def _content(value: object) -> str:
    """Return the text of a message's content: text, or typed blocks of which some are reasoning."""
    if isinstance(value, dict):
        value = [value]
    if not isinstance(value, list):
        return _text(value)
    blocks = (block if isinstance(block, dict) else {"type": "text", "text": block} for block in value)
    return "".join(_text(block.get("text")) for block in blocks if block.get("type", "text") in TEXT_BLOCKS)


def _read_object(data: str) -> dict[str, Any]:
    try:
        chunk = json.loads(data)
    except (ValueError, RecursionError):  # RecursionError: deeply nested brackets
        raise LLMProtocolError(f"the server sent something that is not JSON: {one_line(data, longest=80)}") from None
    if isinstance(chunk, list) and len(chunk) == 1:  # an error of Gemini's OpenAI endpoint
        chunk = chunk[0]
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


def _cached(usage: dict[str, Any]) -> int | None:
    """Return how many tokens of the prompt were cached, as Kimi, OpenAI and DeepSeek say it, in this order."""
    said = (
        usage.get("cached_tokens"),
        _object(usage.get("prompt_tokens_details")).get("cached_tokens"),
        usage.get("prompt_cache_hit_tokens"),
    )
    return next((count for value in said if (count := _count(value)) is not None), None)


def _count(value: object) -> int | None:
    """Return a number of tokens that fits its column, None for anything else."""
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= MAX_TOKEN_COUNT else None
