"""Selects the PostgreSQL and Redis of a process: those that the environment names, or the embedded ones."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from vm_webapp.database_address import check_address
from vm_webapp.local import start_local_servers
from vm_webapp.settings import Settings


@dataclass(frozen=True, slots=True)
class Servers:
    """The servers that a process uses.

    Attributes:
        redis_url: None if there is no Redis.
        embedded: whether they run under the workspace root.
        notes: lines about the embedded servers to print for a person.
        direct_url: address of the database past a pooler, None if there is no other.
    """

    database_url: str
    redis_url: str | None
    embedded: bool = False
    notes: tuple[str, ...] = ()
    direct_url: str | None = None

    @property
    def session_url(self) -> str:
        """The address for what needs a session, or a connection, of its own."""
        return self.direct_url or self.database_url


@contextmanager
def servers_of(settings: Settings) -> Iterator[Servers]:
    """Yield the servers that the settings name; in local mode the embedded ones, which run at least during the block.

    Raises:
        ConfigurationError: the embedded servers cannot be started, or libpq refuses an address before it connects.
    """
    if settings.mode != "local":
        assert settings.db_url is not None, "every mode but local has VM_DB_URL"
        for variable, address in (("VM_DB_URL", settings.db_url), ("VM_DB_DIRECT_URL", settings.db_direct_url)):
            if address is not None:
                check_address(address, variable)
        yield Servers(settings.db_url, settings.redis_url, direct_url=settings.db_direct_url)
        return
    with start_local_servers(settings.workspace_root) as local:
        yield Servers(local.database_url, local.redis_url, embedded=True, notes=tuple(local.notes))
