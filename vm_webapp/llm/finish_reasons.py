"""What a server's ``finish_reason`` says about the text before it; ``docs/models.md`` has the table and its sources."""

from __future__ import annotations

from typing import Literal

Ending = Literal["whole", "truncated", "filtered", "interrupted", "unusable", "missing"]

# Compared in lower case. OpenAI's own values are the first of each group; the others are those of the servers named.
_REASONS: dict[Ending, tuple[str, ...]] = {
    "whole": (
        "stop",
        *("eos", "eos_token", "stop_sequence"),  # TGI, SGLang, llama.cpp's own API behind proxies
        *("end_turn", "complete", "completed", "finish", "finished"),  # Anthropic, Cohere and others behind proxies
        "stop_token",
    ),
    "truncated": (
        "length",
        *("max_tokens", "max_output_tokens", "max_length", "model_length", "token_limit"),  # Anthropic, Gemini, Mistral
        *("incomplete", "model_context_window_exceeded"),
    ),
    "filtered": (
        "content_filter",
        *("content_filtered", "safety", "recitation", "prohibited_content", "blocklist", "spii"),  # Gemini
        *("sensitive", "refusal", "guardrail_intervened", "moderation", "error_toxic"),  # Zhipu, Anthropic, Bedrock
    ),
    "interrupted": (
        *("abort", "aborted", "cancel", "cancelled", "canceled"),  # vLLM, SGLang
        *("error", "insufficient_system_resource", "network_error"),  # OpenRouter and Mistral, DeepSeek, Zhipu
        *("overloaded", "timeout", "failed", "unknown_error", "internal_error", "engine_overloaded"),
    ),
    "unusable": ("tool_calls", "tool_call", "tool_use", "function_call", "malformed_function_call"),
}
_ENDINGS: dict[str, Ending] = {reason: ending for ending, reasons in _REASONS.items() for reason in reasons}


def ending_of(reason: str | None) -> Ending:
    """Return what a finish reason says.

    Args:
        reason: as the server sent it; None where it sent none, as for a stream that ends early.

    Returns:
        ``whole``; ``truncated`` by a limit on tokens, and for every reason that is not known: nothing says that such a
        text is whole; ``filtered`` by a content filter; ``interrupted`` by a failure of the server; ``unusable``, a
        call of a tool that was not offered; ``missing``.
    """
    if not reason:
        return "missing"
    return _ENDINGS.get(reason.strip().lower(), "truncated")
