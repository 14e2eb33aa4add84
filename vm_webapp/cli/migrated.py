"""Starts or finds the configured servers, and migrates their database outside managed mode."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

from vm_webapp.db import migrate
from vm_webapp.errors import DatabaseFull
from vm_webapp.fleet.alive import ALIVE
from vm_webapp.local.by_mode import Servers, servers_of
from vm_webapp.settings import Settings

TRY_AGAIN_SECONDS = 1.0
WAIT_SECONDS = 60.0  # for another process that migrates, such as a worker that starts at the same time


@contextmanager
def migrated_servers(settings: Settings) -> Iterator[Servers]:
    """Provide the servers for the block; apply pending migrations first, except in managed mode.

    A server without a free connection is waited for.

    Raises:
        ConfigurationError: the embedded servers cannot be started.
        VMError: the database cannot be migrated.
    """
    with servers_of(settings) as servers:
        # In managed mode a deployment runs ``migrate`` as a step of its own.
        if not settings.managed:
            patience = migrate.Patience(WAIT_SECONDS)
            _when_not_full(partial(migrate.apply_pending, servers.session_url, alive=ALIVE, patience=patience))
        yield servers


def _when_not_full(apply: Callable[[], object]) -> None:
    """Call a function again and again until the server has a connection for it; say so once."""
    said = False
    while True:
        try:
            apply()
            return
        except DatabaseFull as error:
            if not said:
                print(f"waiting for a database connection: {error}", file=sys.stderr, flush=True)
            said = True
            time.sleep(TRY_AGAIN_SECONDS)
