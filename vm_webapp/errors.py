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
    """PostgreSQL cannot be used now; the text is what it answered, and what to do about that.

    Attributes:
        gist: what is wrong, in words that name no address and no role.
        todo: what to do about it.
    """

    code = "database_unavailable"
    gist = "the database does not answer"
    todo = "check VM_DB_URL and that PostgreSQL is up"

    @property
    def answer(self) -> str:
        """What was answered, without what to do."""
        return super().__str__()

    def __str__(self) -> str:
        """Return the answer and what to do."""
        return f"{self.answer}: {self.todo}"


class DatabaseBusy(DatabaseUnavailable):
    """PostgreSQL is up, but a statement waited too long for a lock or was canceled for taking too long."""

    gist = "the database is up, but a table is locked or statements take too long"
    todo = "look in pg_stat_activity for the session that holds it"


class DatabaseFull(DatabaseUnavailable):
    """PostgreSQL is up, but takes no more connections."""

    gist = "the database takes no more connections"
    todo = "scale the services down, or take a larger database"


class DatabaseReadOnly(DatabaseUnavailable):
    """PostgreSQL takes no writes: a replica, or a primary that was demoted."""

    gist = "the database is read-only"
    todo = "wait for the failover to end, or point VM_DB_URL at the primary"


class ConnectionsTaken(DatabaseUnavailable):
    """No connection of this process came free in time."""

    gist = "every database connection of this process is taken"
    todo = "look in pg_stat_activity for statements that take long"


class DatabaseRefused(VMError):
    """PostgreSQL understood and refuses: the schema, or the rights of the role, are not what this build needs."""

    code = "database_refused"


class WorkflowFileError(VMError):
    """A workflow file is broken; the text begins with its name and line."""

    code = "workflow_file_error"


class RenderError(VMError):
    """A prompt could not be rendered although its file was accepted."""

    code = "prompt_render_error"
