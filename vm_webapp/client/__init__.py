"""A client of our own API, for the command line and for whoever else stands outside: it sees what every client sees."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import cast

from vm_webapp.client.connection import ANSWER_SECONDS, Connection, open_http
from vm_webapp.client.health import Health
from vm_webapp.client.queue import Queue
from vm_webapp.client.runs import Runs
from vm_webapp.client.shapes import Workflows

__all__ = ["ApiClient", "open_api"]


class ApiClient:
    """One API, by its nouns.

    Every call raises the errors of ``vm_webapp.client.errors``, and returns what was answered as it was answered: its
    shapes say what this API promises, and are not checked.

    Attributes:
        runs: runs with their documents, reviews and timelines.
        queue: the queue, its workers and the providers.
        health: the probes.

    Args:
        connection: the way to it.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self.runs = Runs(connection)
        self.queue = Queue(connection)
        self.health = Health(connection)

    def use_token(self, token: str) -> None:
        """Send a token or key with every call from now on."""
        self._connection.use_token(token)

    async def workflows(self) -> Workflows:
        """Return what can be run. Raises as ``Connection.post``."""
        return cast(Workflows, await self._connection.get("/workflows"))


@asynccontextmanager
async def open_api(
    base_url: str, token: str | None = None, *, trust_env: bool = True, answer_seconds: float = ANSWER_SECONDS
) -> AsyncIterator[ApiClient]:
    """Open a client of an address for the block; nothing is connected before the first call.

    Args:
        base_url: the address, without ``/api/v2``.
        token: sent as the bearer token.
        trust_env: whether the proxies of the environment are used.
        answer_seconds: how long a whole answer may take: a server that sends a byte now and then never times out.

    Raises:
        ConfigurationError: the address is none, or the variables that name a proxy are wrong.
    """
    async with open_http(base_url, trust_env=trust_env) as http:
        api = ApiClient(Connection(http, answer_seconds=answer_seconds))
        if token:
            api.use_token(token)
        yield api
