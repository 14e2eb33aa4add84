"""Checks a workspace folder again and again beside other work: a disk that hangs must block nothing else."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from vm_webapp.loops import Loop
from vm_webapp.ops.workspace import check_workspace

EVERY_SECONDS = 5.0
HANGS_SECONDS = 15.0
STOP_SECONDS = 1.0


class WorkspaceProbe:
    """Checks a folder every five seconds, on a thread of its own.

    Args:
        root: the folder.
        clock: monotonic seconds.
    """

    def __init__(self, root: Path, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._root = root.absolute()
        self._clock = clock
        self._facts: dict[str, Any] | None = None
        self._checked_at = clock()
        self._loop = Loop("workspace", self.check_once, every_seconds=EVERY_SECONDS)

    def start(self) -> None:
        """Start the thread."""
        self._checked_at = self._clock()
        self._loop.start()

    def stop(self) -> None:
        """End the thread; one that a disk blocks is left behind."""
        self._loop.stop(STOP_SECONDS)

    def check_once(self) -> None:
        """Check the folder."""
        facts = check_workspace(self._root) | {"folder": str(self._root)}
        try:
            facts["free_bytes"] = shutil.disk_usage(self._root).free
        except OSError:
            facts["free_bytes"] = None
        self._facts, self._checked_at = facts, self._clock()

    def latest(self) -> dict[str, Any] | None:
        """Return the facts of the last check: the folder, a ``status`` and the free bytes; None before the first."""
        if self._clock() - self._checked_at > HANGS_SECONDS:
            return {"folder": str(self._root), "status": "hangs", "free_bytes": None}
        return self._facts
