"""Why a call of the API did not succeed; each text is one line for the person at the terminal."""

from __future__ import annotations

from vm_webapp.client.answers import Answer
from vm_webapp.errors import ConfigurationError, VMError


class ApiError(VMError):
    """A call did not succeed.

    Attributes:
        answer: what was answered, None where nothing was.
    """

    code = "api_error"
    answer: Answer | None = None


class Unanswered(ApiError):
    """The API cannot be reached now, or what stands before it answers in its place.

    Attributes:
        said: what the connection says of it, which may be nothing.
    """

    code = "unanswered"

    def __init__(self, text: str, *, said: str = "", answer: Answer | None = None) -> None:
        super().__init__(text)
        self.said = said
        self.answer = answer


class Unreachable(Unanswered):
    """There is no connection to the address."""


class TimedOut(Unanswered):
    """The API did not answer in time."""


class BrokenOff(Unanswered):
    """The connection broke before the answer was whole."""


class Unreadable(ApiError):
    """A stream tells something that this API does not.

    Attributes:
        said: what is wrong with it.
    """

    code = "unreadable"

    def __init__(self, said: str) -> None:
        super().__init__(f"the stream is not one of this API: {said}")
        self.said = said


class Refused(ApiError):
    """The API refused; the text is its own.

    Attributes:
        code: the last part of the problem's type.
    """

    def __init__(self, code: str, answer: Answer) -> None:
        super().__init__(answer.detail)
        self.code = code
        self.answer = answer


class NotLetIn(ApiError, ConfigurationError):
    """The API does not let us in; the text is its own."""

    code = "not_let_in"

    def __init__(self, answer: Answer) -> None:
        super().__init__(answer.detail)
        self.answer = answer


class NotThisApi(ApiError, ConfigurationError):
    """Something else answers at the address."""

    code = "not_this_api"

    def __init__(self, address: str, answer: Answer) -> None:
        super().__init__(f"{address} is not this API: it answered {_status_of(answer)}; check --base-url")
        self.answer: Answer = answer


class BadAddress(ApiError, ConfigurationError):
    """The address is none."""

    code = "bad_address"

    def __init__(self, said: object) -> None:
        super().__init__(f"--base-url is not a URL: {said}")


def error_of(answer: Answer, address: str) -> ApiError:
    """Return what an answer means that is not the one asked for.

    Args:
        answer: the answer.
        address: who gave it.
    """
    code = None if answer.ok else answer.problem
    if code is None:
        if answer.status < 500:
            return NotThisApi(address, answer)
        says = f"what stands before it says {_status_of(answer)}"
        return Unanswered(f"the API at {address} does not answer: {says}", answer=answer)
    return NotLetIn(answer) if answer.status in (401, 403) else Refused(code, answer)


def _status_of(answer: Answer) -> str:
    return f"{answer.status} {answer.reason}".rstrip()
