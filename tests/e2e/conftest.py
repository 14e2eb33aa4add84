"""Fixtures of end-to-end tests: a folder and an environment."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from tempfile import mkdtemp

import pytest

from tests.fakes.model_server import ModelServer
from tests.support.deployment import managed_environment
from tests.support.folders import open_folder
from tests.support.serving import Served, served
from tests.support.terminals import Desk, write_workflow


@pytest.fixture
def folder() -> Iterator[Path]:
    """A new, empty folder."""
    with open_folder() as made:
        yield made


@pytest.fixture
def env(database: str, redis_url: str, tmp_path: Path) -> dict[str, str]:
    """The environment of a managed service."""
    return managed_environment(database, redis_url, tmp_path)


@pytest.fixture(scope="package")
def review_service() -> Iterator[tuple[Served, ModelServer, Path]]:
    """An API with a model, a workflow of two reviews and a folder, for all tests of ``run`` on a terminal."""
    with open_folder() as folder, ModelServer() as model:
        env = {"KIMI_API_KEY": "sk-test-key", "KIMI_BASE_URL": model.base_url}
        env["VM_WORKFLOWS_PATH"] = str(write_workflow(folder))
        with served(folder / "workspace", **env) as serving:
            yield serving, model, folder


@pytest.fixture(scope="module")
def desk(review_service: tuple[Served, ModelServer, Path]) -> Desk:
    """A desk with a folder of its own, whose model has forgotten what the tests of other modules told it."""
    serving, model, folder = review_service
    model.reset()
    return Desk(serving, model, Path(mkdtemp(prefix="desk-", dir=folder)))
