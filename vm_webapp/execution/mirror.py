"""A readable copy of the artifacts under the workspace root. The originals are in the database.

Only the user of this process can read it. It is reached folder by folder, by descriptors, and no step follows a
symbolic link: whoever can write into the workspace could otherwise have files elsewhere overwritten or removed.
"""

from __future__ import annotations

import logging
import os
import random
import shutil
import stat
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from uuid import UUID

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
        try:
            runs = self._open_runs()
        except OSError as error:
            return self._warn(copies[0], error)
        try:
            by_run = groupby(copies, lambda copy: copy.run_id)
            written = [self._write_run(runs, list(of_run)) for _, of_run in by_run]
        finally:
            os.close(runs)
        return all(written)

    def _write_run(self, runs: int, copies: Sequence[ArtifactCopy]) -> bool:
        try:
            folder = _make_inside(runs, str(copies[0].run_id))
        except OSError as error:
            return self._warn(copies[0], error)
        try:
            written = [self._write_copy(folder, copy) for copy in copies]
        finally:
            os.close(folder)
        return all(written)

    def _write_copy(self, run_folder: int, copy: ArtifactCopy) -> bool:
        try:
            _write_inside(run_folder, copy)
        except OSError as error:
            return self._warn(copy, error)
        return True

    def _warn(self, copy: ArtifactCopy, error: OSError) -> bool:
        path = self._root.joinpath(RUNS, str(copy.run_id), copy.folder, copy.file_name)
        log.warning("mirror.unwritable", extra={"path": str(path), "error": error.strerror})
        return False

    def remove(self, run_ids: Iterable[UUID]) -> None:
        """Remove the files of these runs; what cannot be removed stays."""
        with suppress(OSError):
            runs = _open_runs(self._root)
            try:
                for run_id in run_ids:
                    shutil.rmtree(str(run_id), ignore_errors=True, dir_fd=runs)  # does not follow links either
            finally:
                os.close(runs)

    def _open_runs(self) -> int:
        try:
            return _open_runs(self._root)
        except FileNotFoundError:
            self._root.mkdir(parents=True, exist_ok=True)
            with suppress(FileExistsError):
                os.mkdir(self._root / RUNS, FOLDER_MODE)
            return _open_runs(self._root)


def _open_runs(root: Path) -> int:
    """Return a descriptor of the folder of all runs, which the caller closes.

    Args:
        root: the workspace root, which its owner may have made a link.

    Raises:
        OSError: there is none, it is a link or no folder, belongs to another user, or cannot be opened.
    """
    above = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        return _open_inside(above, RUNS)
    finally:
        os.close(above)


def _open_inside(folder: int, name: str) -> int:
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


def _make_inside(folder: int, name: str) -> int:
    """Return a descriptor of a folder, which is made if it is missing, within one that only we can enter."""
    try:
        os.mkdir(name, FOLDER_MODE, dir_fd=folder)
    except FileExistsError:
        return _open_inside(folder, name)
    return os.open(name, INSIDE, dir_fd=folder)


def _write_inside(run_folder: int, copy: ArtifactCopy) -> None:
    folder = _make_inside(run_folder, copy.folder)
    try:
        _write_atomically(folder, copy.file_name, copy.content.encode())
    finally:
        os.close(folder)


def _write_atomically(folder: int, name: str, content: bytes) -> None:
    # In the same folder, because os.replace is atomic only within one file system. Not synced to the disk: the mirror
    # can be lost without losing anything.
    temporary = f".{random.getrandbits(128):032x}.tmp"
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
