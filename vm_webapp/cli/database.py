"""Opens the configured database for commands that work on it directly."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from peewee import ProgrammingError

from vm_webapp.db.pool import close_pool, open_pool, refusal, transaction
from vm_webapp.db.sessions import name_session
from vm_webapp.errors import DatabaseFull, DatabaseUnavailable
from vm_webapp.local.by_mode import servers_of
from vm_webapp.settings import Settings

CONNECTIONS = 2
ATTEMPTS, WAIT_SECONDS = 6, 0.5


@contextmanager
def open_database(settings: Settings) -> Iterator[str | None]:
    """Open the connection pool for the block: on ``VM_DB_URL``, else on the embedded database.

    Yields:
        The URL of Redis, None if there is none.

    Raises:
        DatabaseRefused: the block used a table or a right that the database does not have.
    """
    with ExitStack() as stack:
        # Said on stderr, because an operator who forgot VM_DB_URL would otherwise act on the wrong database.
        if settings.mode == "local":
            print(f"embedded database under {settings.workspace_root}: VM_DB_URL is not set", file=sys.stderr)
        servers = stack.enter_context(servers_of(settings))
        name = name_session("command", settings.build)
        stack.callback(close_pool)
        open_pool(servers.database_url, max_connections=CONNECTIONS, application_name=name)
        if _stays_full(attempts=1 if servers.direct_url else ATTEMPTS) and servers.direct_url:
            print("VM_DB_URL takes no more connections: this command uses VM_DB_DIRECT_URL", file=sys.stderr)
            close_pool()
            open_pool(servers.direct_url, max_connections=CONNECTIONS, application_name=name)
        try:
            yield servers.redis_url
        except ProgrammingError as error:
            raise refusal(error) from error


def _stays_full(attempts: int) -> bool:
    """Whether the server has no connection for this process, after so many attempts."""
    # Services leave the last connections to commands, but may take one for a moment to see that it is one of the last.
    for attempt in range(attempts):
        try:
            with transaction():
                return False
        except DatabaseFull:
            time.sleep(WAIT_SECONDS if attempt < attempts - 1 else 0)
        except DatabaseUnavailable:  # the command reports it
            return False
    return True
