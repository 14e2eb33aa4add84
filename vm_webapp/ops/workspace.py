"""Checks whether this process can write its workspace. If it cannot, that is a warning: no work depends on it."""

from __future__ import annotations

import errno
from pathlib import Path
from typing import Any

PROBE_FILE = ".probe"
PROBE_BYTES = 4096  # one block, because an empty file can still be created on a full disk
FULL = frozenset({errno.ENOSPC, errno.EDQUOT})


def check_workspace(root: Path) -> dict[str, Any]:
    """Write a block into a folder and remove it again; return the result as facts with a ``status``."""
    try:
        root.mkdir(parents=True, exist_ok=True)
        probe = root / PROBE_FILE
        try:
            probe.write_bytes(b"\0" * PROBE_BYTES)
        finally:
            # Also after a failed write, which may leave an empty file behind.
            probe.unlink(missing_ok=True)
    except OSError as error:
        status, todo = ("full", "free space there") if error.errno in FULL else ("unwritable", "let this user write it")
        return {
            "status": status,
            "note": f"nothing is lost, but no artifact is copied to VM_WORKSPACE_ROOT: {todo}, or set another folder",
            "detail": f"{root}: {error.strerror}",
        }
    return {"status": "ok"}
