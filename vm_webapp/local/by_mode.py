"""Selects the PostgreSQL and Redis of a process: those that the environment names, or the embedded ones."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from vm_webapp.local import start_local_servers
from vm_webapp.settings import Settings


@dataclass(frozen=True, slots=True)
class Servers:
    """The servers that a process uses.

    Attributes:
        redis_url: None if there is no Redis.
        embedded: whether they run under the workspace root.
        notes: lines about the embedded servers to print for a person.
    """

    database_url: str
    redis_url: str | None
    embedded: bool = False
    notes: tuple[str, ...] = ()


@contextmanager
def servers_of(settings: Settings) -> Iterator[Servers]:
    """Yield the servers that the settings name; in local mode the embedded ones, which run at least during the block.

    Raises:
        ConfigurationError: the embedded servers cannot be started.
    """
    if settings.mode != "local":
        assert settings.db_url is not None, "every mode but local has VM_DB_URL"
        yield Servers(settings.db_url, settings.redis_url)
        return
    with start_local_servers(settings.workspace_root) as local:
        yield Servers(local.database_url, local.redis_url, embedded=True, notes=tuple(local.notes))
