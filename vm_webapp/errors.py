"""The exceptions of the whole program: one tree, in which each class defines its HTTP status and whether to retry."""

from __future__ import annotations


class VMError(Exception):
    """Base of all exceptions that this program raises on purpose; its text is written for the person who sees it.

    Attributes:
        code: stable identifier, the last part of a problem's ``type`` and the ``code`` of a stored error.
        http_status: the status of the API's response.
        permanent: whether a retry is pointless.
        retry_after_seconds: how soon a retry makes sense, or None.
    """

    code = "internal_error"
    http_status = 500
    permanent = True
    retry_after_seconds: int | None = None

    @property
    def facts(self) -> dict[str, str | int]:
        """Return values that a program may need beside the text; the problem document has them under these names."""
        return {}


class ConfigurationError(VMError):
    """The environment or the command line is wrong; the process ends with exit code 2."""

    code = "configuration_error"


class PoolerInTransactionMode(ConfigurationError):
    """Something needs a session of its own, and a pooler gives every transaction another one."""

    def __init__(self) -> None:
        super().__init__(
            "this address of the database is a pooler in transaction mode, and migrations need a session of their own:"
            " set VM_DB_DIRECT_URL to the address of PostgreSQL itself, or of a pooler in session mode"
        )


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
    """The requested thing does not exist."""

    code = "not_found"
    http_status = 404


class Conflict(VMError):
    """The thing exists, but its state does not allow the request."""

    code = "conflict"
    http_status = 409


class Unavailable(VMError):
    """A dependency of this process does not respond; the caller should retry later."""

    code = "unavailable"
    http_status = 503
    permanent = False
    retry_after_seconds = 2


class DatabaseUnavailable(Unavailable):
    """PostgreSQL cannot be used now; the text is the driver's message and the remedy.

    Attributes:
        gist: what is wrong, in words that name no address and no role.
        todo: the remedy.
    """

    # Readiness is public and shows ``gist``: the driver's message may name the host, the address and the role.
    code = "database_unavailable"
    gist = "the database does not respond"
    todo = "check VM_DB_URL and that PostgreSQL is up"

    @property
    def driver_message(self) -> str:
        """The driver's message alone, without the remedy."""
        return super().__str__()

    def __str__(self) -> str:
        """Return the driver's message and the remedy."""
        return f"{self.driver_message}: {self.todo}"


# One class for each remedy: what an operator has to do differs.
class DatabaseBusy(DatabaseUnavailable):
    """PostgreSQL is up, but a statement waited too long for a lock or was canceled for taking too long."""

    gist = "the database is up, but a table is locked or statements take too long"
    todo = "python -m vm_webapp doctor names the session that holds it"


class DatabaseFull(DatabaseUnavailable):
    """PostgreSQL is up, but takes no more connections."""

    gist = "the database takes no more connections"
    todo = "scale the services down, or take a larger database"


class DatabaseDiskFull(DatabaseUnavailable):
    """PostgreSQL responds, but its disk is full, or a quota of its space is used up (SQLSTATE 53100)."""

    code = "database_disk_full"
    gist = "the database's disk is full"
    todo = "free space on it or take a larger one; work then goes on by itself"


class DatabaseReadOnly(DatabaseUnavailable):
    """PostgreSQL takes no writes: a replica, or a primary that was demoted."""

    gist = "the database is read-only"
    todo = "wait for the failover to end, or point VM_DB_URL at the primary"


class ConnectionsTaken(DatabaseUnavailable):
    """No connection of this process's pool became free in time."""

    gist = "every database connection of this process is taken"
    todo = "look in pg_stat_activity for statements that take long"


class DatabaseRefused(VMError):
    """PostgreSQL refuses a statement: the schema, or the role's privileges, are not what this build needs."""

    code = "database_refused"


class WorkflowFileError(VMError):
    """A workflow file is broken; the text begins with its name and line."""

    code = "workflow_file_error"


class RenderError(VMError):
    """A prompt could not be rendered although its file was accepted."""

    code = "prompt_render_error"
