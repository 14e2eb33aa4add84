"""``run`` in the terminal: progress, artifacts in a folder, exit codes, one line per error."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fakes.behaviours import Behaviour, completion, refusal, truncated
from tests.fakes.model_server import ModelServer
from tests.support.folders import open_folder
from tests.support.processes import program
from tests.support.ready_postgres import fill_workspace


@pytest.fixture(scope="module")
def workspace() -> Iterator[Path]:
    """A workspace for the runs of all tests that leave no provider paused: only the first creates its database."""
    with open_folder() as made:
        yield made / "workspace"


def test_a_request_becomes_a_folder_of_artifacts(folder: Path, workspace: Path) -> None:
    with ModelServer() as model:
        model.enqueue(completion("# Research"), completion("# Strategy"), completion("# Plan"))
        env = {
            "VM_WORKSPACE_ROOT": str(workspace),
            "KIMI_API_KEY": "sk-test-key",
            "KIMI_BASE_URL": model.base_url,
        }
        command = ("run", "90-day plan for a CRM for dental clinics", "--workflow", "plan_90d", "--yes")
        output = str(folder / "documents")
        with program(*command, "--output", output, env=env, folder=folder / "log") as running:
            assert running.wait(seconds=60) == 0, running.output()
            said = running.output()
    written = {path.name: path.read_text() for path in (folder / "documents").iterdir()}
    assert written == {"01-research.md": "# Research", "02-strategy.md": "# Strategy", "03-plan.md": "# Plan"}
    assert all(name in said for name in ("Research", "Strategy", "90-day plan", "03-plan.md", "completed"))


def test_a_refused_key_ends_with_one_line_that_says_what_to_do(folder: Path) -> None:
    fill_workspace(folder / "workspace")
    with ModelServer(lambda body: refusal(401, "invalid_authentication_error", "Invalid Authentication")) as model:
        env = {
            "VM_WORKSPACE_ROOT": str(folder / "workspace"),
            "KIMI_API_KEY": "sk-test-key",
            "KIMI_BASE_URL": model.base_url,
        }
        output = str(folder / "documents")
        with program("run", "a plan", "--output", output, env=env, folder=folder / "log") as running:
            assert running.wait(seconds=60) == 1
            (line,) = running.stderr.read_text().splitlines()
    assert line == "vm_webapp: the run failed: HTTP 401: Invalid Authentication; check KIMI_API_KEY"
    assert "sk-test-key" not in running.output()
    assert not (folder / "documents").exists()


def test_an_artifact_that_breaks_off_is_named_at_the_end(folder: Path, workspace: Path) -> None:
    with ModelServer() as model:
        model.enqueue(truncated(), Behaviour(usage={"prompt_tokens": 30, "completion_tokens": 9}))
        env = {
            "VM_WORKSPACE_ROOT": str(workspace),
            "KIMI_API_KEY": "sk-test-key",
            "KIMI_BASE_URL": model.base_url,
        }
        command = ("run", "a calendar. " * 400, "--workflow", "content_calendar", "--yes")
        with program(*command, "--output", str(folder / "out"), env=env, folder=folder / "log") as running:
            assert running.wait(seconds=60) == 0
            said = running.stdout.read_text()
    assert "Topic map is truncated: the model reached its budget, so the text breaks off\n" in said
    assert "Publishing calendar: the server counted 30 tokens for a prompt of " in said


def test_the_error_for_an_unknown_workflow_lists_the_known_ones(folder: Path, workspace: Path) -> None:
    env = {"VM_WORKSPACE_ROOT": str(workspace)}
    with program("run", "x", "--workflow", "nonsense", env=env, folder=folder / "log") as running:
        assert running.wait(seconds=60) == 2
        (line,) = running.stderr.read_text().splitlines()
    assert "nonsense" in line
    assert "plan_90d" in line


def test_an_api_that_does_not_respond_is_one_clear_line(folder: Path) -> None:
    env = {"VM_WORKSPACE_ROOT": str(folder / "workspace")}
    with program("run", "x", "--base-url", "http://127.0.0.1:1", env=env, folder=folder / "log") as running:
        assert running.wait() == 1
        (line,) = running.output().splitlines()
    assert line.startswith("vm_webapp: the API at http://127.0.0.1:1 does not respond")
