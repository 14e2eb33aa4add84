"""A readable copy of the artifacts under the workspace root. The originals are in the database.

Only the user of this process can read it. It is reached folder by folder, by descriptors, and no step follows a
symbolic link: whoever can write into the workspace could otherwise have files elsewhere overwritten or removed.
"""

from __future__ import annotations

import logging
import os
import shutil
import stat
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from uuid import UUID, uuid4

log = logging.getLogger(__name__)

RUNS = "runs"
FOLDER_MODE, FILE_MODE = 0o700, 0o600
INSIDE = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
NOT_OURS = "a folder of another user is in the way"


@dataclass(frozen=True, slots=True)
class ArtifactCopy:
    """One version of an artifact, to be written.

    Attributes:
        run_id: its run.
        position: that of its stage, from 1.
        stage_key: its stage.
        version: the version, from 1.
        name: the artifact's file name, whose extension the copy gets.
        content: the text.
    """

    run_id: UUID
    position: int
    stage_key: str
    version: int
    name: str
    content: str

    @property
    def folder(self) -> str:
        """The name of its folder within that of its run."""
        return f"{self.position:02}-{self.stage_key}"

    @property
    def file_name(self) -> str:
        """The name of its file."""
        return f"v{self.version}{os.path.splitext(self.name)[1]}"


class ArtifactMirror:
    """Writes ``runs/<run_id>/01-research/v1.md`` below a folder; a folder that cannot be written is a warning."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def write(self, copies: Sequence[ArtifactCopy]) -> bool:
        """Write versions, each whole or not at all; return whether all could be written."""
        written = True
        for run_id, of_run in groupby(copies, lambda copy: copy.run_id):
            together = list(of_run)
            try:
                folder = self._open_folder((RUNS, str(run_id)))
            except OSError as error:
                written = self._warn(together[0], error)
                continue
            try:
                for copy in together:
                    try:
                        _write_inside(folder, copy)
                    except OSError as error:
                        written = self._warn(copy, error)
            finally:
                os.close(folder)
        return written

    def _warn(self, copy: ArtifactCopy, error: OSError) -> bool:
        path = self._root.joinpath(RUNS, str(copy.run_id), copy.folder, copy.file_name)
        log.warning("mirror.unwritable", extra={"path": str(path), "error": error.strerror})
        return False

    def remove(self, run_ids: Iterable[UUID]) -> None:
        """Remove the files of these runs; what cannot be removed stays."""
        with suppress(OSError):
            runs = _open_folder(self._root, (RUNS,), create=False)
            try:
                for run_id in run_ids:
                    shutil.rmtree(str(run_id), ignore_errors=True, dir_fd=runs)  # does not follow links either
            finally:
                os.close(runs)

    def _open_folder(self, names: Iterable[str]) -> int:
        try:
            return _open_folder(self._root, names, create=True)
        except FileNotFoundError:
            self._root.mkdir(parents=True, exist_ok=True)
            return _open_folder(self._root, names, create=True)


def _open_folder(root: Path, names: Iterable[str], *, create: bool) -> int:
    """Return a descriptor of a folder of the copy, which the caller closes.

    Args:
        root: the workspace root, which its owner may have made a link.
        names: the folders from there, each in the one before.
        create: create those that are missing, but not the root.

    Raises:
        OSError: one of them is a link or no folder, belongs to another user, or cannot be opened.
    """
    folder = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    for name in names:
        try:
            inner = _open_inside(folder, name, create=create)
        finally:
            os.close(folder)
        folder = inner
    return folder


def _open_inside(folder: int, name: str, *, create: bool) -> int:
    try:
        inner = os.open(name, INSIDE, dir_fd=folder)
    except FileNotFoundError:
        if not create:
            raise
        with suppress(FileExistsError):
            os.mkdir(name, FOLDER_MODE, dir_fd=folder)
        inner = os.open(name, INSIDE, dir_fd=folder)
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


def _write_inside(run_folder: int, copy: ArtifactCopy) -> None:
    folder = _open_inside(run_folder, copy.folder, create=True)
    try:
        _write_atomically(folder, copy.file_name, copy.content.encode())
    finally:
        os.close(folder)


def _write_atomically(folder: int, name: str, content: bytes) -> None:
    # In the same folder, because os.replace is atomic only within one file system. Not synced to the disk: the mirror
    # can be lost without losing anything.
    temporary = f".{uuid4().hex}.tmp"
    # O_EXCL never opens what exists, links included; os.replace replaces a link itself.
    handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, FILE_MODE, dir_fd=folder)
    try:
        try:
            while content:
                content = content[os.write(handle, content) :]
        finally:
            os.close(handle)
        os.replace(temporary, name, src_dir_fd=folder, dst_dir_fd=folder)
    except BaseException:
        with suppress(OSError):
            os.unlink(temporary, dir_fd=folder)
        raise
