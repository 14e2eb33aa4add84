"""A small disk that a test may fill: a tmpfs, which only root can mount."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from vm_webapp.local.account import servers_user


class SmallDisk:
    """A mounted file system of a fixed size.

    Attributes:
        folder: a folder on it that belongs to the user of the embedded PostgreSQL.
    """

    def __init__(self, mounted_on: Path) -> None:
        self.folder = mounted_on / "data"
        self._filler = mounted_on / "filler"
        self.folder.mkdir(mode=0o700)
        user = servers_user()
        if user is not None:
            os.chown(self.folder, user.pw_uid, user.pw_gid)

    @contextmanager
    def full(self) -> Iterator[None]:
        """Fill what is left of it during the block."""
        with self._filler.open("wb", buffering=0) as filler, suppress(OSError):
            while True:
                filler.write(bytes(4096))
        try:
            yield
        finally:
            self._filler.unlink()


@contextmanager
def small_disk(megabytes: int) -> Iterator[SmallDisk]:
    """Mount a disk; skip the test where that is not possible."""
    with TemporaryDirectory(prefix="vm-disk-") as folder:
        Path(folder).chmod(0o755)
        mount = ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m,mode=755", "tmpfs", folder]
        if shutil.which("mount") is None or subprocess.run(mount, check=False, capture_output=True).returncode:
            pytest.skip("a small disk can only be mounted by root")
        try:
            yield SmallDisk(Path(folder))
        finally:
            subprocess.run(["umount", "--lazy", folder], check=True)
