"""The database and the Redis of the settings, for a command that works on them directly."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from peewee import ProgrammingError

from vm_webapp.db.pool import close_pool, open_pool
from vm_webapp.db.sessions import name_session
from vm_webapp.errors import VMError
from vm_webapp.local import start_local_servers
from vm_webapp.settings import Settings

CONNECTIONS = 2


class SchemaDoesNotFit(VMError):
    """The database lacks a table or a column that this build needs."""

    code = "schema_does_not_fit"


@contextmanager
def open_database(settings: Settings) -> Iterator[str | None]:
    """Have the pool open for the block, on the embedded database where there is no other.

    Yields:
        Where Redis is, None where there is none.

    Raises:
        SchemaDoesNotFit: the block used what the database lacks.
    """
    with ExitStack() as stack:
        url, redis_url = settings.db_url, settings.redis_url
        if settings.mode == "local":
            servers = stack.enter_context(start_local_servers(settings.workspace_root))
            url, redis_url = servers.database_url, servers.redis_url
        assert url is not None, "every mode but local has VM_DB_URL"
        open_pool(url, max_connections=CONNECTIONS, application_name=name_session("command", settings.build))
        stack.callback(close_pool)
        try:
            yield redis_url
        except ProgrammingError as error:
            raise SchemaDoesNotFit("the database lacks a migration: run python -m vm_webapp migrate") from error
