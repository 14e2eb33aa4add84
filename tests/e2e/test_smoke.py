"""``smoke`` as an operator types it, against a deployment of real processes."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.behaviours import refusal
from tests.fakes.model_server import ModelServer
from tests.support.processes import program
from tests.support.runs import read
from tests.support.waiting import eventually
from vm_webapp.db.pool import execute, transaction


@pytest.fixture
def model() -> Iterator[ModelServer]:
    """A fake Kimi."""
    with ModelServer() as server:
        yield server


@pytest.fixture
def env(database: str, redis_url: str, model: ModelServer, tmp_path: Path) -> dict[str, str]:
    """The environment of a deployment without a token."""
    return {
        "APP_ENV": "production",
        "VM_ENABLE_MANAGED_MODE": "true",
        "VM_DB_URL": database,
        "VM_REDIS_URL": redis_url,
        "VM_WORKSPACE_ROOT": str(tmp_path),
        "KIMI_API_KEY": "sk-test-key",
        "KIMI_BASE_URL": model.base_url,
    }


@pytest.fixture
def url(env: dict[str, str], tmp_path: Path) -> Iterator[str]:
    """The address of an API with a worker behind it."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with (
        program("serve", "--port", str(port), env=env, folder=tmp_path / "api") as api,
        program("worker", "--poll-interval-ms", "100", env=env, folder=tmp_path / "worker"),
    ):
        api.says("API ")
        yield f"http://127.0.0.1:{port}"


def smoke(url: str, env: dict[str, str], folder: Path, *options: str) -> tuple[int, str, str]:
    """Run the smoke test; return its exit code and what it said on each stream."""
    with program("smoke", "--base-url", url, *options, env=env, folder=folder / "smoke") as running:
        code = running.wait(seconds=60)
        return code, running.stdout.read_text(), running.stderr.read_text()


def test_a_deployment_that_works_passes_and_nothing_is_left(
    url: str, env: dict[str, str], tmp_path: Path, model: ModelServer
) -> None:
    code, said, errors = smoke(url, env, tmp_path, "--wait", "30", "--with-model", "--json")
    assert (code, errors) == (0, ""), said
    told: dict[str, Any] = json.loads(said)
    assert (told["ok"], told["failed"], told["base_url"]) == (True, None, url)
    assert told["seconds"] < 30
    names = [step["name"] for step in told["steps"]]
    assert names == [
        "live",
        "ready",
        "credentials",
        "create",
        "worker",
        "stream",
        "timeline",
        "artifact",
        "queue",
        "model",
    ]
    assert model.requests
    assert {each["status"] for each in read("SELECT status FROM runs")} <= {"completed", "canceled"}
    (key,) = read("SELECT name, revoked_at, expires_at - created_at <= interval '10 minutes' AS short FROM api_keys")
    assert key["name"].startswith("smoke-")
    assert key["short"]
    assert key["revoked_at"] is not None


def test_a_queue_that_nobody_takes_from_fails_at_the_worker_and_is_cleaned_up(
    url: str, env: dict[str, str], tmp_path: Path
) -> None:
    eventually(lambda: read("SELECT 1 AS found FROM worker_heartbeats WHERE state = 'working'"), "it works")
    with transaction():
        execute("UPDATE queues SET paused_at = now(), paused_by = 'tests'")
    code, said, errors = smoke(url, env, tmp_path)
    assert (code, errors) == (1, "")
    *_, failed, last = said.splitlines()
    assert failed.startswith("FAILED  worker")
    assert "an operator has paused the queue" in failed
    assert last == "smoke failed at worker"
    assert read("SELECT status FROM runs") == [{"status": "canceled"}]


def test_a_model_that_refuses_fails_at_the_model_with_its_reason(
    url: str, env: dict[str, str], tmp_path: Path, model: ModelServer
) -> None:
    model.enqueue(refusal(401, "invalid_authentication_error", "Invalid Authentication"))
    code, said, _ = smoke(url, env, tmp_path, "--with-model")
    assert code == 1
    *_, failed, last = said.splitlines()
    assert "Invalid Authentication" in failed
    assert last == "smoke failed at model"
    assert read("SELECT DISTINCT status FROM runs WHERE finished_at IS NULL") == []


def test_a_wrong_token_is_said(url: str, env: dict[str, str], tmp_path: Path) -> None:
    code, said, errors = smoke(url, env | {"VM_API_TOKEN": "wrong"}, tmp_path)
    assert (code, errors) == (1, "")
    assert said.splitlines()[-1] == "smoke failed at credentials"
    assert "401" in said


def test_a_wrong_url_is_exit_code_1(env: dict[str, str], tmp_path: Path) -> None:
    code, said, errors = smoke("http://127.0.0.1:1", env, tmp_path)
    assert (code, errors) == (1, "")
    assert said.splitlines()[-1] == "smoke failed at live"
