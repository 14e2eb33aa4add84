"""The API as it is served, on a port of loopback, over a real PostgreSQL and a real Redis."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from types import MappingProxyType
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from actors import connected
from api.app import create_app
from api.http.threads import Threads
from api.server import serve
from api.services import Services
from tests.api.client import Api, written
from tests.fakes.tcp_proxy import Proxy
from tests.support.databases import Databases
from tests.support.links import link_to_postgres
from tests.support.statements import Traffic, counted
from vm_webapp.db.pool import close_pool, open_pool
from vm_webapp.fleet.installation import find_fingerprint
from vm_webapp.ops.health import HealthChecker
from vm_webapp.settings import Settings
from vm_webapp.workflows.loader import load_catalog

CATALOG = load_catalog()
TOKEN = "a-token-of-the-tests"
MANAGED = Settings(managed=True, api_token=TOKEN)
REQUEST_SECONDS, PROBE_SECONDS = 2.0, 1.5  # the limits behind a proxy; a busy machine takes half a second for a verdict

Serving = Callable[..., AbstractAsyncContextManager[Api]]


@pytest.fixture
def serving(redis_url: str) -> Iterator[Serving]:
    """Serve with these settings for as long as a block lasts."""

    @asynccontextmanager
    async def serve_for_a_block(
        settings: Settings | None = None,
        *,
        require_token: bool = False,
        sub_apps: Mapping[str, web.Application] = MappingProxyType({}),
        **parts: Any,
    ) -> AsyncIterator[Api]:
        settings = settings or Settings()
        given: dict[str, Any] = {"redis_url": redis_url, "loopback": True} | parts
        services = Services(settings, CATALOG, HealthChecker(settings, redis_url), require_token, **given)
        stop, started = asyncio.Event(), asyncio.get_running_loop().create_future()
        app = create_app(services)
        for prefix, sub_app in sub_apps.items():
            app.add_subapp(prefix, sub_app)
        task = asyncio.create_task(serve(app, "127.0.0.1", 0, stop=stop, on_started=started.set_result))
        connector = aiohttp.TCPConnector(limit=0)
        async with aiohttp.ClientSession(connector=connector, auto_decompress=False) as session:
            yield Api(await started, services, session)
        stop.set()
        await task

    with connected(redis_url):
        yield serve_for_a_block


@pytest.fixture
async def api(serving: Serving, database: str) -> AsyncIterator[Api]:
    """The API of a laptop: on loopback, without credentials."""
    async with serving() as running:
        yield running


@pytest.fixture
async def watched(serving: Serving, database: str) -> AsyncIterator[tuple[Api, Traffic]]:
    """The API of a laptop on three connections, and its traffic with PostgreSQL."""
    with counted(database) as (traffic, url):
        open_pool(url, max_connections=3, application_name="tests")
        find_fingerprint()  # or a thread that sends hints would, at any time after the first request
        async with serving() as running:
            yield running, traffic
        close_pool()


@pytest.fixture(scope="session")
def lasting_database(databases: Databases) -> str:
    """The URL of a database that all tests share whose requests must not write."""
    return databases.url(databases.take())


@pytest.fixture
def untouched(lasting_database: str) -> Iterator[None]:
    """Open the pool on a database that the test must leave unchanged."""
    open_pool(lasting_database, max_connections=8, application_name="tests")
    before = written()
    yield
    assert written() == before
    close_pool()


@pytest.fixture
async def refusing(serving: Serving, untouched: None) -> AsyncIterator[Api]:
    """A laptop's API, for requests that write nothing."""
    async with serving() as running:
        yield running


@pytest.fixture
async def refusing_managed(serving: Serving, untouched: None) -> AsyncIterator[Api]:
    """A deployment's API, for requests that write nothing."""
    async with serving(MANAGED, require_token=True) as running:
        yield running


@pytest.fixture
async def managed(serving: Serving, database: str) -> AsyncIterator[Api]:
    """The API of a deployment: only the probes need no credentials."""
    async with serving(MANAGED, require_token=True) as running:
        yield running


@pytest.fixture
def proxy(database_url: str) -> Iterator[Proxy]:
    """A proxy before this test's database, with this process's pool open on it."""
    with link_to_postgres(database_url) as (own, far_url):
        open_pool(far_url, max_connections=8, application_name="tests")
        yield own
        close_pool()


@pytest.fixture
async def behind_proxy(serving: Serving, proxy: Proxy) -> AsyncIterator[Api]:
    """The API of a deployment behind a proxy to its database, with time limits that a test can wait for."""
    limits = {
        "threads": Threads(7, 64, "api", limit_seconds=REQUEST_SECONDS),
        "health_threads": Threads(1, 8, "health", limit_seconds=PROBE_SECONDS),
    }
    async with serving(MANAGED, require_token=True, **limits) as running:
        running.session.headers["Authorization"] = f"Bearer {TOKEN}"
        yield running
