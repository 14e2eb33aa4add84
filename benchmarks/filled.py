"""A PostgreSQL and a Redis of a benchmark's own, with a history that was not waited for."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from benchmarks.drain import Servers
from tests.chaos.harness import OwnServer, own_redis
from tests.support.folders import open_folder
from vm_webapp.db import migrate
from vm_webapp.db.pool import close_pool, open_pool
from vm_webapp.local.postgres import EmbeddedPostgres

Filled = TypeVar("Filled")


@contextmanager
def filled_servers(fill: Callable[[str], Filled]) -> Iterator[tuple[Servers, Filled]]:
    """Run servers for the block; this process's pool is open on the database, while it is filled and in the block.

    What fills it needs no disk that keeps it; what is measured in the block finds the disk as in production.

    Args:
        fill: fills the migrated database with this URL; what it returns comes with the servers.
    """
    with open_folder("vm-bench-") as folder, own_redis() as redis:
        durable = False
        postgres = OwnServer(lambda: EmbeddedPostgres(folder / "postgres", durable=durable))
        postgres.start()
        try:
            migrate.apply_pending(postgres.url)
            open_pool(postgres.url, max_connections=2, application_name="benchmark")
            filled = fill(postgres.url)
            close_pool()
            postgres.stop()
            durable = True
            postgres.start()
            open_pool(postgres.url, max_connections=2, application_name="benchmark")
            yield Servers(postgres.url, redis.url, folder), filled
        finally:
            close_pool()
            postgres.stop()
