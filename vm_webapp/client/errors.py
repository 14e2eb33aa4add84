"""The errors of API calls; each message is one line for the person at the terminal."""

from __future__ import annotations

from vm_webapp.client.responses import ApiResponse
from vm_webapp.errors import ConfigurationError, VMError


class ApiError(VMError):
    """A call did not succeed.

    Attributes:
        response: the response, None if there was none.
    """

    code = "api_error"
    response: ApiResponse | None = None


class NoResponse(ApiError):
    """The API did not respond: it cannot be reached now, or a proxy in front of it responded with its own error.

    Attributes:
        reason: the connection's error message, which may be empty.
    """

    code = "unanswered"

    def __init__(self, text: str, *, reason: str = "", response: ApiResponse | None = None) -> None:
        super().__init__(text)
        self.reason = reason
        self.response = response


class Unreachable(NoResponse):
    """No connection to the address could be opened."""


class TimedOut(NoResponse):
    """The API did not respond in time."""


class ConnectionBroken(NoResponse):
    """The connection broke before the response was complete."""


class MalformedStream(ApiError):
    """A stream contained data that this API does not send.

    Attributes:
        reason: what is wrong with the data.
    """

    code = "unreadable"

    def __init__(self, reason: str) -> None:
        super().__init__(f"the stream is not one of this API: {reason}")
        self.reason = reason


class Refused(ApiError):
    """The API refused the request; the message is the problem's detail.

    Attributes:
        code: the last part of the problem's type.
    """

    def __init__(self, code: str, response: ApiResponse) -> None:
        super().__init__(response.detail)
        self.code = code
        self.response = response


class WrongValue(Refused, ConfigurationError):
    """The API refused a value that it was sent; the message is the problem's detail."""


class AccessDenied(ApiError, ConfigurationError):
    """The API refused our credentials, or requires some; the message is the problem's detail."""

    code = "not_let_in"

    def __init__(self, response: ApiResponse) -> None:
        super().__init__(response.detail)
        self.response = response


class NotThisApi(ApiError, ConfigurationError):
    """The address belongs to something other than this API."""

    code = "not_this_api"

    def __init__(self, address: str, response: ApiResponse) -> None:
        super().__init__(f"{address} is not this API: it responded {_status_of(response)}; check --base-url")
        self.response: ApiResponse = response


class BadAddress(ApiError, ConfigurationError):
    """The address is not a URL."""

    code = "bad_address"

    def __init__(self, reason: object) -> None:
        super().__init__(f"--base-url is not a URL: {reason}")


def error_of(response: ApiResponse, address: str) -> ApiError:
    """Return the error that an unsuccessful or unexpected response stands for.

    Args:
        response: the response.
        address: the address that it came from.
    """
    code = None if response.ok else response.problem
    if code is None:
        # Without our problem type it is not the API's own. A 5xx comes from a proxy whose backend is down, and a 429
        # from one that limits us: a later call may succeed. Anything else comes from another server, and none will.
        if response.status < 500 and response.status != 429:
            return NotThisApi(address, response)
        reason = f"a proxy in front of it responded {_status_of(response)}"
        return NoResponse(f"the API at {address} does not respond: {reason}", response=response)
    if response.status in (401, 403):
        return AccessDenied(response)
    return (WrongValue if response.status in (400, 413, 422) else Refused)(code, response)


def _status_of(response: ApiResponse) -> str:
    # Some servers leave the reason phrase out.
    return f"{response.status} {response.reason}".rstrip()
