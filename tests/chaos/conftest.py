"""The servers and the fleet of a chaos test."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from actors import connected
from tests.chaos.harness import Fleet
from tests.fakes.model_server import ModelServer


@pytest.fixture
def fleet(database: str, redis_url: str, model: ModelServer, tmp_path: Path) -> Iterator[Fleet]:
    """Yield a fleet on the session's servers. This process sends hints, as the API does."""
    with connected(redis_url), Fleet(tmp_path, database, redis_url, model) as running:
        yield running
