"""Keeps what a reviewer has written in files, until the API has it."""

from __future__ import annotations

import tempfile
from contextlib import suppress
from pathlib import Path


class KeptTexts:
    """A folder with the edit of a draft and a remark on it; it is made when the first of them is.

    Args:
        stage: the key of the stage, which names the file of the edit.
    """

    def __init__(self, stage: str) -> None:
        self._stage = stage
        self._folder: Path | None = None

    @property
    def edit(self) -> Path:
        """The file of the edit. Raises OSError if there is no place for it."""
        # A key is a name of letters, digits and underscores; another server's might be a path.
        return self._in_folder(f"{Path(self._stage).name or 'draft'}.md")

    @property
    def remark(self) -> Path:
        """The file of the remark. Raises OSError if there is no place for it."""
        return self._in_folder("remark.txt")

    def remove(self, file: Path) -> None:
        """Remove a file, and the folder with the last one."""
        with suppress(OSError):
            file.unlink(missing_ok=True)
            file.parent.rmdir()
            self._folder = None

    def _in_folder(self, name: str) -> Path:
        if self._folder is None:
            self._folder = Path(tempfile.mkdtemp(prefix="vm-draft-"))
        return self._folder / name
