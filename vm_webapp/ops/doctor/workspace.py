"""Checks the workspace folders: this machine's, and those of the workers, who write the copies of artifacts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vm_webapp.db.compiled import compiled
from vm_webapp.db.models import WorkerHeartbeat
from vm_webapp.db.pool import rows
from vm_webapp.fleet.alive import ALIVE
from vm_webapp.ops.doctor.check import Check, ok, warn

LOW_BYTES = 100 * 1024 * 1024
TODO = {
    "full": "free space on it, or set VM_WORKSPACE_ROOT of the worker to another folder",
    "unwritable": "let the worker's user write it, or set VM_WORKSPACE_ROOT of the worker to another folder",
    "hangs": "check the disk, or the network that it is mounted over",
}
_W = WorkerHeartbeat
_WORKSPACES = compiled(
    _W.select(_W.host, _W.pid, _W.workspace).where(ALIVE, _W.workspace.is_null(False)).order_by(_W.host, _W.pid)
)


def judge_own_workspace(facts: Mapping[str, Any]) -> Check:
    """Judge the folder of the machine that the doctor runs on.

    Args:
        facts: those of readiness.
    """
    if facts["status"] == "ok":
        return ok("workspace", "this machine can write it")
    todo = TODO[facts["status"]].replace(" of the worker", "").replace("the worker's user", "this user")
    return warn("workspace", f"it is {facts['status']}: {facts['detail']}", todo)


def check_worker_workspace() -> Check:
    """Check the folders of the live workers, as their heartbeats report them; the worst one is named."""
    name = "worker workspace"
    found = rows(_WORKSPACES)
    if not found:
        return ok(name, "no live worker has reported one")
    for each in found:
        facts = each["workspace"]
        if facts["status"] != "ok":
            state = "hangs" if facts["status"] == "hangs" else f"is {facts['status']}"
            detail = f"{facts['folder']} on {each['host']} (worker pid {each['pid']}) {state}"
            return warn(name, f"{detail}: nothing is lost, but artifacts are not copied there", TODO[facts["status"]])
    least = min(found, key=lambda each: each["workspace"]["free_bytes"] or 0)
    facts = least["workspace"]
    detail = f"{facts['folder']} on {least['host']} has {_megabytes(facts['free_bytes'])} MB free"
    if (facts["free_bytes"] or 0) < LOW_BYTES:
        return warn(name, f"{detail}: artifacts will soon not be copied there", TODO["full"])
    return ok(name, f"all {len(found)} can be written; {detail}")


def _megabytes(size: int | None) -> str:
    return "an unknown number of" if size is None else f"{size // (1024 * 1024):,}"
