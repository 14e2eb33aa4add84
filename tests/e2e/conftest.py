"""Fixtures of end-to-end tests: a folder and an environment."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.deployment import managed_environment
from tests.support.folders import open_folder


@pytest.fixture
def folder() -> Iterator[Path]:
    """A new, empty folder."""
    with open_folder() as made:
        yield made


@pytest.fixture
def env(database: str, redis_url: str, tmp_path: Path) -> dict[str, str]:
    """The environment of a managed service."""
    return managed_environment(database, redis_url, tmp_path)
