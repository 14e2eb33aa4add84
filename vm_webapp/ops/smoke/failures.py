"""Why a step of the smoke test failed: one line that says what to do."""

from __future__ import annotations

from vm_webapp.client.answers import Answer
from vm_webapp.client.errors import ApiError, BadAddress, BrokenOff, TimedOut, Unreachable, Unreadable


class StepFailed(Exception):
    """A step failed; the text is one line that says what to do."""


def why(error: ApiError | StepFailed, address: str) -> str:
    """Return why a step failed.

    Args:
        error: what went wrong.
        address: the deployment's, as it was given.
    """
    if isinstance(error, StepFailed):
        return str(error)
    if error.answer is not None:
        told = told_by(error.answer)
        return told if error.answer.ok else f"{error.answer.asked}: {told}"
    match error:
        case TimedOut():
            return f"{address} took the request and did not answer in time: is the process stuck?"
        case BadAddress():
            return f"{address} is not a URL: check --base-url"
        case Unreachable():
            return f"{address} cannot be reached ({error.said}): check --base-url and that the API runs"
        case BrokenOff():
            return f"{address} broke off ({error.said}): is it this API?"
        case Unreadable():
            return f"the answer is not one of this API ({error.said})"
    return str(error)


def told_by(answer: Answer) -> str:
    """Return the status of an answer that was not asked for, and what it says of itself."""
    if answer.lacks:
        return f"it answered {answer.status} without {answer.lacks}: is --base-url this API?"
    return f"{answer.status}, {answer.detail}"
