"""Starts or finds the configured servers, and migrates their database outside managed mode."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from vm_webapp.db import migrate
from vm_webapp.fleet.alive import ALIVE
from vm_webapp.local.by_mode import Servers, servers_of
from vm_webapp.settings import Settings


@contextmanager
def migrated_servers(settings: Settings) -> Iterator[Servers]:
    """Provide the servers for the block; apply pending migrations first, except in managed mode.

    Raises:
        ConfigurationError: the embedded servers cannot be started.
        VMError: the database cannot be migrated.
    """
    with servers_of(settings) as servers:
        # In managed mode a deployment runs ``migrate`` as a step of its own.
        if not settings.managed:
            url, embedded = servers.session_url, servers.embedded
            migrate.apply_pending(url, alive=ALIVE, break_leftover_lock=embedded)
        yield servers
