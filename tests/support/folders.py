"""Folders of tests in which embedded servers run."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory


@contextmanager
def open_folder(prefix: str = "vm-tests-") -> Iterator[Path]:
    """Yield an empty folder that PostgreSQL's user may enter, unlike ``tmp_path``; its data is then inside."""
    with TemporaryDirectory(prefix=prefix, ignore_cleanup_errors=True) as name:
        folder = Path(name).resolve()
        folder.chmod(0o711)
        yield folder
