"""A workflow whose template never ends: ``serve`` starts, stops and works beside it, and a run of it fails."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.folders import open_folder
from tests.support.processes import child_pids, is_running, program
from tests.support.serving import served
from tests.support.waiting import eventually
from tests.unit.workflow_files import write_workflow
from vm_webapp.workflows.limited import TOO_SLOW

ENDLESS = "Write.\n{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}"
# The request of the check has four characters.
LATER_ENDLESS = "{{ (7 ** (7 ** ([request | length, 9] | min))) % 10 }}"
LINE = f"press/release.md:2: {TOO_SLOW}"


@pytest.fixture
def root() -> Iterator[Path]:
    """A new, empty workspace."""
    with open_folder() as folder:
        yield folder / "workspace"


def test_serve_starts_and_a_run_that_runs_away_fails_with_the_reason(root: Path, tmp_path: Path) -> None:
    write_workflow(tmp_path, prompts={"release.md": ENDLESS})
    write_workflow(tmp_path, "later", prompts={"release.md": LATER_ENDLESS})
    with served(root, VM_WORKFLOWS_PATH=str(tmp_path)) as serving:
        serving.program.says(f"Workflow  {LINE}")
        assert serving.client.get("/workflows").json()["problems"] == [LINE]
        run = serving.run_to_the_end("later")
        (failed,) = [stage for stage in run["stages"] if stage["status"] == "failed"]
        assert failed["attempt"] == 1, "a permanent failure"
        assert failed["error"]["code"] == "prompt_render_error"
        assert failed["error"]["message"] == f"the prompt of release could not be rendered: {TOO_SLOW}"
        assert serving.run_to_the_end("smoke")["status"] == "completed"


def test_sigterm_ends_a_start_that_checks_many_runaways(root: Path, tmp_path: Path) -> None:
    for number in range(20):
        write_workflow(tmp_path, f"press_{number}", prompts={"release.md": ENDLESS})
    env = {"VM_WORKSPACE_ROOT": str(root), "VM_WORKFLOWS_PATH": str(tmp_path)}
    with program("serve", "--port", "0", env=env, folder=root.parent / "log") as running:
        (renderer,) = eventually(lambda: child_pids(running.pid), "the checks have begun")
        began = time.monotonic()
        running.stop()
        assert time.monotonic() - began < 3
        eventually(lambda: not is_running(renderer), "the process that rendered has ended")
