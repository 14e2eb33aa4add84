"""The database and the Redis of the settings, for a command that works on them directly."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from peewee import ProgrammingError

from vm_webapp.db.pool import close_pool, open_pool, refusal
from vm_webapp.db.sessions import name_session
from vm_webapp.local import start_local_servers
from vm_webapp.settings import Settings

CONNECTIONS = 2


@contextmanager
def open_database(settings: Settings) -> Iterator[str | None]:
    """Have the pool open for the block, on the embedded database where there is no other, which is said.

    Yields:
        Where Redis is, None where there is none.

    Raises:
        DatabaseRefused: the block used what the database lacks, or does not allow.
    """
    with ExitStack() as stack:
        url, redis_url = settings.db_url, settings.redis_url
        if settings.mode == "local":
            print(f"embedded database under {settings.workspace_root}: VM_DB_URL is not set", file=sys.stderr)
            servers = stack.enter_context(start_local_servers(settings.workspace_root))
            url, redis_url = servers.database_url, servers.redis_url
        assert url is not None, "every mode but local has VM_DB_URL"
        open_pool(url, max_connections=CONNECTIONS, application_name=name_session("command", settings.build))
        stack.callback(close_pool)
        try:
            yield redis_url
        except ProgrammingError as error:
            raise refusal(error) from error
