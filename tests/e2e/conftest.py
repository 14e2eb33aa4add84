"""Fixtures of end-to-end tests: a folder and an environment."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fakes.model_server import ModelServer
from tests.support.deployment import managed_environment
from tests.support.folders import open_folder
from tests.support.serving import served
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


@pytest.fixture(scope="module")
def desk() -> Iterator[Desk]:
    """An API with a model and a workflow of two reviews, for all tests of a module."""
    with open_folder() as folder, ModelServer() as model:
        (folder / "desk").mkdir()
        env = {"KIMI_API_KEY": "sk-test-key", "KIMI_BASE_URL": model.base_url}
        env["VM_WORKFLOWS_PATH"] = str(write_workflow(folder))
        with served(folder / "workspace", **env) as serving:
            yield Desk(serving, model, folder / "desk")
