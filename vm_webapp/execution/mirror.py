"""A readable copy of the artifacts under the workspace root. The originals are in the database."""

from __future__ import annotations

import logging
import os
import shutil
import tempfile
from collections.abc import Iterable
from pathlib import Path
from uuid import UUID

log = logging.getLogger(__name__)


class ArtifactMirror:
    """Writes ``runs/<run_id>/01-research/v1.md`` below a folder; a folder that cannot be written is a warning."""

    def __init__(self, root: Path) -> None:
        self._runs = root / "runs"

    def path(self, run_id: UUID, *, position: int, stage_key: str, version: int, name: str) -> Path:
        """Return the path of a version, whether it has been written or not."""
        return self._runs / str(run_id) / f"{position:02}-{stage_key}" / f"v{version}{Path(name).suffix}"

    def write(self, run_id: UUID, *, position: int, stage_key: str, version: int, name: str, content: str) -> bool:
        """Write one version, whole or not at all; return whether it worked."""
        path = self.path(run_id, position=position, stage_key=stage_key, version=version, name=name)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            _write_atomically(path, content)
        except OSError as error:
            log.warning("mirror.unwritable", extra={"path": str(path), "error": error.strerror})
            return False
        return True

    def remove(self, run_ids: Iterable[UUID]) -> None:
        """Remove the files of these runs; what cannot be removed stays."""
        for run_id in run_ids:
            shutil.rmtree(self._runs / str(run_id), ignore_errors=True)


def _write_atomically(path: Path, content: str) -> None:
    # In the same folder, because os.replace is atomic only within one file system. Not synced to the disk: the mirror
    # can be lost without losing anything.
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=".", suffix=".tmp")
    try:
        with open(handle, "w", encoding="utf-8") as file:
            file.write(content)
        os.chmod(temporary, 0o644)  # mkstemp makes files that only their owner can read
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
