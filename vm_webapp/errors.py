"""The exceptions of the whole program: one tree, in which each class says how it is answered and retried."""

from __future__ import annotations


class VMError(Exception):
    """Anything this program raises on purpose; its text is fit for the person who reads it.

    Attributes:
        code: stable identifier, the last part of a problem's ``type`` and the ``code`` of a stored error.
        http_status: the status with which the API answers it.
        permanent: whether trying the same thing again is pointless.
        retry_after_seconds: how soon trying again makes sense, or None.
    """

    code = "internal_error"
    http_status = 500
    permanent = True
    retry_after_seconds: int | None = None

    @property
    def facts(self) -> dict[str, str | int]:
        """Return what a program may need beside the text; told in the problem under these names."""
        return {}


class ConfigurationError(VMError):
    """The environment or the command line is wrong; the process ends with exit code 2."""

    code = "configuration_error"


class InvalidInput(VMError):
    """A value that a caller sent is wrong.

    Args:
        message: what is wrong and what would be right.
        pointer: JSON pointer (RFC 6901) of the value within the body, such as ``/workflow``.
    """

    code = "invalid_input"
    http_status = 422

    def __init__(self, message: str, *, pointer: str = "") -> None:
        super().__init__(message)
        self.pointer = pointer


class NotFound(VMError):
    """The thing asked for does not exist."""

    code = "not_found"
    http_status = 404


class Conflict(VMError):
    """The thing exists, but not in a state that allows what was asked."""

    code = "conflict"
    http_status = 409


class Unavailable(VMError):
    """Something this process depends on does not answer now; trying again later is right."""

    code = "unavailable"
    http_status = 503
    permanent = False
    retry_after_seconds = 2


class DatabaseUnavailable(Unavailable):
    """PostgreSQL cannot be reached, or no connection came free in time."""

    code = "database_unavailable"


class WorkflowFileError(VMError):
    """A workflow file is broken; the text begins with its name and line."""

    code = "workflow_file_error"


class RenderError(VMError):
    """A prompt could not be rendered although its file was accepted."""

    code = "prompt_render_error"
