"""Fixtures of end-to-end tests: a folder and an environment."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from tests.support.deployment import managed_environment


@pytest.fixture
def folder() -> Iterator[Path]:
    """A new, empty folder."""
    with TemporaryDirectory(prefix="vm-tests-") as made:
        yield Path(made)


@pytest.fixture
def env(database: str, redis_url: str, tmp_path: Path) -> dict[str, str]:
    """The environment of a managed service."""
    return managed_environment(database, redis_url, tmp_path)
