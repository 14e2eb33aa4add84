"""Which parameters a server takes: found out from its refusals, once for each process.

Servers of OpenAI's API differ in a few parameters, and none can be asked which it takes. The first refusal that names
one is followed by a single repetition of the call without it; later calls begin with what was learned.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Any

from vm_webapp.llm.base import Assignment
from vm_webapp.llm.context_window import fitting_budget

SMALLEST_BUDGET = 256  # tokens; a document in fewer is none

_NOT_TAKEN = (
    r"unsupported|not supported|does not support|unrecognized|unknown|unexpected|extra"
    r"|not permitted|not allowed|invalid"
)
_STREAM_OPTIONS = re.compile(rf"stream_options.*?({_NOT_TAKEN})|({_NOT_TAKEN}).*?stream_options", re.DOTALL)
# A limit on max_tokens itself, as different servers word it; ``docs/models.md`` has the sources.
_LIMITS = tuple(
    re.compile(pattern, re.DOTALL)
    for pattern in (
        r"max_(?:completion_)?tokens[^\n]{0,80}?\[\s*\d+\s*,\s*(\d+)\s*\]",
        r"max_(?:completion_)?tokens[^\n]{0,120}?(?:less than or equal to|at most|cannot exceed|must not exceed|up to"
        r"|<=|maximum(?: allowed)?(?: value)?(?: is| of)?)\D{0,20}(\d+)",
        r"supports at most (\d+) completion tokens",
        r"max_(?:completion_)?tokens\W{0,4}\d+ > (\d+)",
    )
)
_CONTEXT = re.compile(r"context length (?:is|of)(?: only)? (\d+)|max_new_tokens. must be <= (\d+)")
_PROMPT = tuple(
    re.compile(pattern)
    for pattern in (
        r"\((\d+) in the messages",
        r"(?:has|passed) (\d+) input tokens",
        r"prompt contains (?:at least )?(\d+)",
        r"(\d+) tokens from the input",
        r"\((\d+) of text input",
        r"given: (\d+) .inputs. tokens",
    )
)


@dataclass(frozen=True, slots=True)
class RequestShape:
    """How a request to one server is written.

    Attributes:
        budget_name: the parameter for the budget: OpenAI's newer models take ``max_completion_tokens`` only.
        with_usage: whether ``stream_options`` is sent, which asks for token counts.
        most_tokens: the largest budget that the server takes, None where it has not refused one.
    """

    budget_name: str = "max_tokens"
    with_usage: bool = True
    most_tokens: int | None = None

    def body(self, model: str | None, assignment: Assignment, *, context_tokens: int | None = None) -> dict[str, Any]:
        """Return the request's body.

        Args:
            model: the model's name.
            assignment: what to write.
            context_tokens: what prompt and budget must fit into, None for anything.

        Raises:
            LLMContextExceeded: they do not.
        """
        budget = min(assignment.max_tokens, self.most_tokens or assignment.max_tokens)
        if context_tokens is not None:
            budget = fitting_budget(assignment, budget, context_tokens)
        body: dict[str, Any] = {
            "model": model,
            "messages": [
                {"role": "system", "content": assignment.system},
                {"role": "user", "content": assignment.user},
            ],
            self.budget_name: budget,
            "stream": True,
        }
        if self.with_usage:
            body["stream_options"] = {"include_usage": True}
        return body

    def adapted(self, refusal: str, sent_tokens: int) -> RequestShape | None:
        """Return the shape that a refusal asks for, None where it is about something else.

        Args:
            refusal: the body of the response.
            sent_tokens: the budget that was sent.
        """
        text = refusal.lower()
        if self.budget_name == "max_tokens" and "max_completion_tokens" in text and _names_replacement(text):
            return replace(self, budget_name="max_completion_tokens")
        if self.with_usage and _STREAM_OPTIONS.search(text):
            return replace(self, with_usage=False)
        if _CONTEXT.search(text):
            return None  # the limit depends on the prompt: ``fitted``
        limit = next((int(found.group(1)) for limit in _LIMITS if (found := limit.search(text))), None)
        if limit is not None and SMALLEST_BUDGET <= limit < sent_tokens:
            return replace(self, most_tokens=limit)
        return None

    def fitted(self, refusal: str, sent_tokens: int) -> RequestShape | None:
        """Return a shape for this prompt alone, where prompt and budget together were too long for the model."""
        text = refusal.lower()
        context = _CONTEXT.search(text)
        prompt = next((int(found.group(1)) for size in _PROMPT if (found := size.search(text))), None)
        if context is None or prompt is None:
            return None
        left = int(context.group(1) or context.group(2)) - prompt
        return replace(self, most_tokens=left) if SMALLEST_BUDGET <= left < sent_tokens else None


def _names_replacement(text: str) -> bool:
    refused = rf"max_tokens.*?({_NOT_TAKEN}).*?max_completion_tokens|use .{{0,3}}max_completion_tokens"
    return re.search(refused, text, re.DOTALL) is not None
