"""How an error of an attempt is recorded."""

from __future__ import annotations

from dataclasses import replace

from vm_webapp.errors import VMError
from vm_webapp.llm.base import Completion, PartialCompletion
from vm_webapp.runs.states import Failure

INTERNAL_ERROR = Failure("internal_error", "the worker failed unexpectedly; see its log", permanent=False)


def failure_of(error: VMError) -> Failure:
    """Return the failure of an attempt that ended with an error of ours."""
    partial = getattr(error, "partial", None) or PartialCompletion("")
    return Failure(
        code=error.code,
        message=str(error),
        permanent=error.permanent,
        retry_after=getattr(error, "retry_after", None),
        pauses_provider=getattr(error, "pauses_provider", False),
        overload=getattr(error, "overload", False),
        partial_text=partial.text,
        prompt_tokens=partial.prompt_tokens or 0,
        completion_tokens=partial.completion_tokens or 0,
    )


def crash_of(paid: Completion | Failure | None) -> Failure:
    """Return the failure of an attempt that crashed; what it had paid for, stored or not, counts all the same."""
    if paid is None:
        return INTERNAL_ERROR
    return replace(INTERNAL_ERROR, prompt_tokens=paid.prompt_tokens or 0, completion_tokens=paid.completion_tokens or 0)
