"""Which PostgreSQL and which Redis a process uses: those of the environment, or the embedded ones."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from vm_webapp.local import start_local_servers
from vm_webapp.settings import Settings


@dataclass(frozen=True, slots=True)
class Servers:
    """Where they are.

    Attributes:
        redis_url: None where there is no Redis.
        embedded: whether they are this machine's own, under the workspace root.
        notes: what a person should know of the embedded ones.
    """

    database_url: str
    redis_url: str | None
    embedded: bool = False
    notes: tuple[str, ...] = ()


@contextmanager
def servers_of(settings: Settings) -> Iterator[Servers]:
    """Have the servers of the settings for the block; in local mode the embedded ones run until nobody needs them.

    Raises:
        ConfigurationError: the embedded servers cannot be started.
    """
    if settings.mode != "local":
        assert settings.db_url is not None, "every mode but local has VM_DB_URL"
        yield Servers(settings.db_url, settings.redis_url)
        return
    with start_local_servers(settings.workspace_root) as local:
        yield Servers(local.database_url, local.redis_url, embedded=True, notes=tuple(local.notes))
