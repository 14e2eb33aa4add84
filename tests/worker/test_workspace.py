"""A worker reports its workspace folder, which only it can judge: it is the one that writes there."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.support.processes import program
from tests.support.runs import read
from tests.support.waiting import eventually
from vm_webapp.ops.doctor import examine
from vm_webapp.ops.workspace_probe import HANGS_SECONDS, WorkspaceProbe
from vm_webapp.settings import Settings


def reported() -> dict[str, Any] | None:
    """Return what the only worker has reported."""
    found = read("SELECT workspace FROM worker_heartbeats WHERE workspace IS NOT NULL")
    return found[0]["workspace"] if found else None


@pytest.mark.usefixtures("database")
def test_a_worker_that_cannot_write_its_folder_is_named_by_the_doctor_and_so_is_its_recovery(
    database_url: str, tmp_path: Path
) -> None:
    folder = tmp_path / "file" / "workspace"
    folder.parent.touch()
    env = {"VM_DB_URL": database_url, "VM_WORKSPACE_ROOT": str(folder)}
    with program("worker", env=env, folder=tmp_path / "worker") as worker:
        facts = eventually(reported, "a report", seconds=30)
        assert (facts["folder"], facts["status"]) == (str(folder), "unwritable")
        # The doctor runs elsewhere, where the folder is fine.
        found = {check.name: check for check in examine(Settings(workspace_root=tmp_path), None)}
        assert found["workspace"].verdict == "ok"
        assert found["worker workspace"].verdict == "warn"
        assert f"{folder} on " in found["worker workspace"].detail
        assert f"(worker pid {worker.pid}) is unwritable" in found["worker workspace"].detail
        folder.parent.unlink()
        facts = eventually(lambda: again if (again := reported()) and again["status"] == "ok" else None, "it recovers")
        assert facts["free_bytes"] > 0


def test_the_free_space_is_that_of_the_folders_disk(tmp_path: Path) -> None:
    probe = WorkspaceProbe(tmp_path)
    assert probe.latest() is None
    probe.check_once()
    facts = probe.latest()
    assert facts is not None
    assert facts["folder"] == str(tmp_path)
    assert abs(facts["free_bytes"] - shutil.disk_usage(tmp_path).free) < 1024**3


def test_a_disk_that_hangs_is_reported_although_no_check_ends(tmp_path: Path) -> None:
    now = 0.0
    probe = WorkspaceProbe(tmp_path, clock=lambda: now)
    probe.check_once()
    now += HANGS_SECONDS
    assert (probe.latest() or {})["status"] == "ok"
    now += 0.1
    assert probe.latest() == {"folder": str(tmp_path), "status": "hangs", "free_bytes": None}
