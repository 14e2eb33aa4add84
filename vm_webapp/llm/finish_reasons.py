"""What a server's ``finish_reason`` says about the text before it; ``docs/models.md`` has the table and its sources."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

Ending = Literal["whole", "truncated", "filtered", "interrupted", "unusable", "missing"]

# Compared in lower case. OpenAI's own values are the first of each group; the others are those of the servers named.
REASONS: dict[Ending, tuple[str, ...]] = {
    "whole": (
        "stop",
        *("eos", "eos_token", "stop_sequence"),  # TGI, SGLang, llama.cpp's own API behind proxies
        # Anthropic, Cohere and others behind proxies
        *("end_turn", "complete", "completed", "finish", "finished", "done"),
        "stop_token",
    ),
    "truncated": (
        "length",
        *("max_tokens", "max_output_tokens", "max_length", "model_length", "token_limit"),  # Anthropic, Gemini, Mistral
        *("incomplete", "model_context_window_exceeded", "context_length_exceeded", "compaction", "limit"),
    ),
    "filtered": (
        "content_filter",
        *("content_filtered", "safety", "recitation", "prohibited_content", "blocklist", "spii", "language"),  # Gemini
        "image_safety",
        *("sensitive", "refusal", "guardrail_intervened", "moderation", "error_toxic"),  # Zhipu, Anthropic, Bedrock
    ),
    "interrupted": (
        *("abort", "aborted", "cancel", "cancelled", "canceled"),  # vLLM, SGLang
        *("error", "insufficient_system_resource", "network_error"),  # OpenRouter and Mistral, DeepSeek, Zhipu
        *("repetition", "repeat", "other", "unknown", "malformed_response"),  # vLLM, Gemini: degenerate or broken text
        *("finish_reason_unspecified", "load", "unload"),  # Gemini, Ollama
        *("overloaded", "timeout", "failed", "unknown_error", "internal_error", "engine_overloaded"),
    ),
    "unusable": (
        *("tool_calls", "tool_call", "tool_use", "function_call", "malformed_function_call"),
        *("unexpected_tool_call", "pause_turn"),
    ),
    "missing": ("none", "null"),
}
_ENDINGS: dict[str, Ending] = {reason: ending for ending, reasons in REASONS.items() for reason in reasons}
_WORST_FIRST: tuple[Ending, ...] = ("filtered", "interrupted", "unusable", "truncated", "whole")


def ending_of(reason: str | None) -> Ending:
    """Return what a finish reason says.

    Args:
        reason: as the server sent it; None where it sent none, as for a stream that ends early.

    Returns:
        ``whole``; ``truncated`` by a limit on tokens, and for every reason that is not known: nothing says that such a
        text is whole; ``filtered`` by a content filter; ``interrupted`` by a failure of the server; ``unusable``, a
        call of a tool that was not offered; ``missing``.
    """
    word = _word(reason)
    return _ENDINGS.get(word, "truncated") if word else "missing"


def worst_ending(reasons: Iterable[str], native: Iterable[str] = ()) -> Ending:
    """Return the ending of a text for which a server, or a gateway before it, gave several reasons.

    Args:
        reasons: every ``finish_reason`` of the stream.
        native: the upstream's own words. Gateways call failures ``stop``; a native word that is not known says nothing,
            since there are as many as upstreams.
    """
    found = {ending_of(reason) for reason in reasons if _word(reason)} - {"missing"}
    if found:
        found |= {_ENDINGS[word] for word in map(_word, native) if word in _ENDINGS} - {"missing"}
    return next((ending for ending in _WORST_FIRST if ending in found), "missing")


def _word(reason: str | None) -> str:
    # Gateways in Python write an enum's member with its class: ``FinishReason.STOP``.
    member = (reason or "").strip().rpartition(".")[2]
    return member.lower().replace("-", "_").replace(" ", "_")
