"""A readable copy of the artifacts under the workspace root. The originals are in the database.

Only the user of this process can read it. It is reached folder by folder, by descriptors, and no step follows a
symbolic link: whoever can write into the workspace could otherwise have files elsewhere overwritten or removed.
"""

from __future__ import annotations

import logging
import os
import shutil
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from uuid import UUID, uuid4

log = logging.getLogger(__name__)

RUNS = "runs"
FOLDER_MODE, FILE_MODE = 0o700, 0o600
NOT_OURS = "a folder of another user is in the way"


class ArtifactMirror:
    """Writes ``runs/<run_id>/01-research/v1.md`` below a folder; a folder that cannot be written is a warning."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def path(self, run_id: UUID, *, position: int, stage_key: str, version: int, name: str) -> Path:
        """Return the path of a version, whether it has been written or not."""
        return self._root / RUNS / str(run_id) / f"{position:02}-{stage_key}" / f"v{version}{Path(name).suffix}"

    def write(self, run_id: UUID, *, position: int, stage_key: str, version: int, name: str, content: str) -> bool:
        """Write one version, whole or not at all; return whether it worked."""
        path = self.path(run_id, position=position, stage_key=stage_key, version=version, name=name)
        try:
            self._root.mkdir(parents=True, exist_ok=True)
            with _opened(self._root, path.parent.relative_to(self._root).parts) as folder:
                _write_atomically(folder, path.name, content)
        except OSError as error:
            log.warning("mirror.unwritable", extra={"path": str(path), "error": error.strerror})
            return False
        return True

    def remove(self, run_ids: Iterable[UUID]) -> None:
        """Remove the files of these runs; what cannot be removed stays."""
        with suppress(OSError), _opened(self._root, (RUNS,), create=False) as runs:
            for run_id in run_ids:
                shutil.rmtree(str(run_id), ignore_errors=True, dir_fd=runs)  # does not follow links either


@contextmanager
def _opened(root: Path, names: Iterable[str], *, create: bool = True) -> Iterator[int]:
    """Yield a descriptor of a folder of the copy.

    Args:
        root: the workspace root, which its owner may have made a link.
        names: the folders from there, each in the one before.
        create: create those that are missing.

    Raises:
        OSError: one of them is a link or no folder, belongs to another user, or cannot be opened.
    """
    folder = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for name in names:
            inner = _open_inside(folder, name, create=create)
            os.close(folder)
            folder = inner
        yield folder
    finally:
        os.close(folder)


def _open_inside(folder: int, name: str, *, create: bool) -> int:
    if create:
        with suppress(FileExistsError):
            os.mkdir(name, FOLDER_MODE, dir_fd=folder)
    inner = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
    try:
        found = os.fstat(inner)
        if found.st_uid != os.geteuid():
            raise PermissionError(0, NOT_OURS, name)
        # Earlier releases made folders that everybody could enter.
        if stat.S_IMODE(found.st_mode) != FOLDER_MODE:
            os.fchmod(inner, FOLDER_MODE)
    except BaseException:
        os.close(inner)
        raise
    return inner


def _write_atomically(folder: int, name: str, content: str) -> None:
    # In the same folder, because os.replace is atomic only within one file system. Not synced to the disk: the mirror
    # can be lost without losing anything.
    temporary = f".{uuid4().hex}.tmp"
    # O_EXCL never opens what exists, links included; os.replace replaces a link itself.
    handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, FILE_MODE, dir_fd=folder)
    try:
        with open(handle, "w", encoding="utf-8") as file:
            file.write(content)
        os.replace(temporary, name, src_dir_fd=folder, dst_dir_fd=folder)
    except BaseException:
        with suppress(OSError):
            os.unlink(temporary, dir_fd=folder)
        raise
