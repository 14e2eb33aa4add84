"""Checks whether this process can write its workspace. If it cannot, that is a warning: no work depends on it."""

from __future__ import annotations

import errno
import tempfile
from pathlib import Path
from typing import Any

PROBE_BYTES = 4096  # one block, because an empty file can still be created on a full disk
FULL = frozenset({errno.ENOSPC, errno.EDQUOT})


def check_workspace(root: Path) -> dict[str, Any]:
    """Write a block into a folder and remove it again; return the result as facts with a ``status``."""
    try:
        root.mkdir(parents=True, exist_ok=True)
        # Unbuffered, so that a full disk shows at the write. The file has no name, or a new one for a moment: a known
        # name might be that of a link to a file elsewhere.
        with tempfile.TemporaryFile(dir=root, buffering=0) as probe:
            probe.write(b"\0" * PROBE_BYTES)
    except OSError as error:
        status, todo = ("full", "free space there") if error.errno in FULL else ("unwritable", "let this user write it")
        return {
            "status": status,
            "note": f"nothing is lost, but no artifact is copied to VM_WORKSPACE_ROOT: {todo}, or set another folder",
            "detail": f"{root}: {error.strerror}",
        }
    return {"status": "ok"}
