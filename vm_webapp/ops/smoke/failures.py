"""Why a step of the smoke test failed: one line that says what to do."""

from __future__ import annotations

from vm_webapp.client.errors import ApiError, BadAddress, ConnectionBroken, MalformedStream, TimedOut, Unreachable
from vm_webapp.client.responses import ApiResponse


class StepFailed(Exception):
    """A step failed; the text is one line that says what to do."""


def explain(error: ApiError | StepFailed, address: str) -> str:
    """Return why a step failed.

    Args:
        error: the error with which the step failed.
        address: the deployment's URL, as given to the command.
    """
    if isinstance(error, StepFailed):
        return str(error)
    if error.response is not None:
        description = describe_response(error.response)
        return description if error.response.ok else f"{error.response.request}: {description}"
    match error:
        case TimedOut():
            return f"{address} took the request and did not respond in time: is the process stuck?"
        case BadAddress():
            return f"{address} is not a URL: check --base-url"
        case Unreachable():
            return f"{address} cannot be reached ({error.reason}): check --base-url and that the API runs"
        case ConnectionBroken():
            return f"{address} broke off ({error.reason}): is it this API?"
        case MalformedStream():
            return f"the response is not one of this API ({error.reason})"
    return str(error)


def describe_response(response: ApiResponse) -> str:
    """Return the status and the detail of a response with which a step failed."""
    # A proxy or another program may respond in place of the API, with a body that is no problem document.
    if response.missing:
        return f"it responded with {response.status} without {response.missing}: is --base-url this API?"
    return f"{response.status}, {response.detail}"
