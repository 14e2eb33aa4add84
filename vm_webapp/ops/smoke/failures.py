"""Why a step of the smoke test failed: one line that says what to do."""

from __future__ import annotations

from vm_webapp.client.errors import ApiError, BadAddress, ConnectionBroken, MalformedStream, TimedOut, Unreachable
from vm_webapp.client.responses import ApiResponse


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
    if error.response is not None:
        told = told_by(error.response)
        return told if error.response.ok else f"{error.response.request}: {told}"
    match error:
        case TimedOut():
            return f"{address} took the request and did not answer in time: is the process stuck?"
        case BadAddress():
            return f"{address} is not a URL: check --base-url"
        case Unreachable():
            return f"{address} cannot be reached ({error.reason}): check --base-url and that the API runs"
        case ConnectionBroken():
            return f"{address} broke off ({error.reason}): is it this API?"
        case MalformedStream():
            return f"the answer is not one of this API ({error.reason})"
    return str(error)


def told_by(answer: ApiResponse) -> str:
    """Return the status of an answer that was not asked for, and what it says of itself."""
    if answer.missing:
        return f"it answered {answer.status} without {answer.missing}: is --base-url this API?"
    return f"{answer.status}, {answer.detail}"
