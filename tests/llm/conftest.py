"""One fake model server for all tests of the providers, reset for each test."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest
import pytest_asyncio

from tests.fakes.model_server import ModelServer
from tests.llm.providers import a_provider
from vm_webapp.llm.kimi import KimiProvider


@pytest.fixture(scope="session")
def running_server() -> Iterator[ModelServer]:
    """The server itself: starting one takes longer than most of the tests."""
    with ModelServer() as running:
        yield running


@pytest.fixture
def server(running_server: ModelServer) -> ModelServer:
    """A server that responds normally until the test queues something else."""
    running_server.reset()
    return running_server


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def kimi(running_server: ModelServer) -> AsyncIterator[KimiProvider]:
    """One client for a whole file, on its loop: making one takes 30 ms (its TLS context)."""
    provider = a_provider(running_server.base_url)
    yield provider
    await provider.aclose()
