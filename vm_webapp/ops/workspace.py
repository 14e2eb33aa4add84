"""Whether the workspace of this process can be written: a warning where it cannot, since nothing depends on it."""

from __future__ import annotations

import errno
from pathlib import Path
from typing import Any

PROBE_FILE = ".probe"
PROBE_BYTES = 4096  # a block: an empty file still fits on a disk that is full
FULL = frozenset({errno.ENOSPC, errno.EDQUOT})


def look_at_workspace(root: Path) -> dict[str, Any]:
    """Write a block below a folder and remove it again; return what came of it, as facts with a ``status``."""
    try:
        root.mkdir(parents=True, exist_ok=True)
        probe = root / PROBE_FILE
        try:
            probe.write_bytes(b"\0" * PROBE_BYTES)
        finally:
            probe.unlink(missing_ok=True)
    except OSError as error:
        status, todo = ("full", "free space there") if error.errno in FULL else ("unwritable", "let this user write it")
        return {
            "status": status,
            "note": f"nothing is lost, but no document is copied to VM_WORKSPACE_ROOT: {todo}, or set another folder",
            "detail": f"{root}: {error.strerror}",
        }
    return {"status": "ok"}
