"""Holds a call against the model's context before it is sent: some servers cut a prompt that is too long in silence."""

from __future__ import annotations

from vm_webapp.llm.base import Assignment
from vm_webapp.llm.errors import LLMContextExceeded

# An estimate from below, since only the server knows its tokenizer: a call that would fit must not be refused; one
# that slips through is left to the server. Samples measured with OpenAI's cl100k, bytes a token: Markdown and English
# prose 3.7 to 4.6, single English sentences of long words up to 6.9, German 3.7, Russian 4.6, Chinese 2.5. Only runs of
# spaces or dashes have many more, 20 to 60.
BYTES_PER_TOKEN = 7
SMALLEST_REST = 1_024  # tokens; a budget that was lowered further would end within the reasoning


def estimated_tokens(assignment: Assignment) -> int:
    """Return how many tokens the messages have at least, by their UTF-8 bytes."""
    size = sum(len(text.encode(errors="replace")) for text in (assignment.system, assignment.user))
    return -(-size // BYTES_PER_TOKEN)


def fitting_budget(assignment: Assignment, budget: int, context_tokens: int) -> int:
    """Return the budget for a call, lowered to what the prompt leaves of the context.

    Args:
        assignment: what is sent.
        budget: what the call may use for reasoning and text, in tokens.
        context_tokens: the model's context, for prompt and budget together.

    Raises:
        LLMContextExceeded: less than the budget is left, and less than 1,024 tokens.
    """
    prompt = estimated_tokens(assignment)
    left = context_tokens - prompt
    if left >= budget:
        return budget
    if left >= SMALLEST_REST:
        return left
    raise LLMContextExceeded(
        f"the prompt has at least {prompt} tokens, which leaves too little of KIMI_CONTEXT_TOKENS={context_tokens} for"
        f" a text of up to {budget}: shorten the request or the artifacts before it, or set KIMI_CONTEXT_TOKENS to the"
        " context of the model, or KIMI_MODEL to one with a longer context"
    )
