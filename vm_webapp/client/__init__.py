"""The client of our own API, for the command line and the smoke test; it sees what every other client sees."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import cast

from vm_webapp.client.connection import TIMEOUT_SECONDS, Connection, open_http
from vm_webapp.client.health import Health
from vm_webapp.client.queue import Queue
from vm_webapp.client.resources import Resources
from vm_webapp.client.runs import Runs
from vm_webapp.client.shapes import Workflows

__all__ = ["ApiClient", "open_api"]


class ApiClient:
    """One API.

    Every call raises the errors of ``vm_webapp.client.errors`` and returns the response's JSON as it is: the types
    describe what this API promises, and nothing validates them.

    Attributes:
        runs: runs with their artifacts, reviews and timelines.
        brands: the brands.
        projects: the projects.
        queue: the queue, its workers and the providers.
        health: the probes.

    Args:
        connection: the connection to the API.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self.runs = Runs(connection)
        self.brands = Resources(connection, "brand")
        self.projects = Resources(connection, "project")
        self.queue = Queue(connection)
        self.health = Health(connection)

    def use_token(self, token: str) -> None:
        """Send a token or key with every subsequent call."""
        self._connection.use_token(token)

    async def workflows(self) -> Workflows:
        """Return the workflows that can be run. Raises as ``Connection.post``."""
        return cast(Workflows, await self._connection.get("/workflows"))


@asynccontextmanager
async def open_api(
    base_url: str, token: str | None = None, *, trust_env: bool = True, timeout_seconds: float = TIMEOUT_SECONDS
) -> AsyncIterator[ApiClient]:
    """Open a client of an address for the block; it connects at the first call.

    Args:
        base_url: the address, without ``/api/v2``.
        token: sent as the bearer token.
        trust_env: whether to use the proxies that the environment names.
        timeout_seconds: how long a call may take, from the request to the response's last byte.

    Raises:
        ConfigurationError: the address is not a URL, or the variables that name a proxy are wrong.
    """
    async with open_http(base_url, trust_env=trust_env) as http:
        api = ApiClient(Connection(http, timeout_seconds=timeout_seconds))
        if token:
            api.use_token(token)
        yield api
