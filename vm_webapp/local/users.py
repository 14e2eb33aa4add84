"""Who uses the servers: kernel locks, which die with their process."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from vm_webapp.errors import ConfigurationError

WAIT_SECONDS = 60.0


class Users:
    """One user of a folder's servers, joined when made."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._file: int | None = os.open(folder / "users.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        fcntl.flock(self._file, fcntl.LOCK_SH)

    @property
    def joined(self) -> bool:
        """Whether this user has not left yet."""
        return self._file is not None

    def leave(self) -> bool:
        """Leave; return whether nobody is left. The caller holds the start lock, so nobody joins meanwhile."""
        if self._file is None:
            return False
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        else:
            return True
        finally:
            os.close(self._file)
            self._file = None


@contextmanager
def exclusive(path: Path) -> Iterator[None]:
    """Hold an exclusive lock on a file for the block.

    Raises:
        ConfigurationError: another process has held it for a minute.
    """
    file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        deadline = time.monotonic() + WAIT_SECONDS
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise ConfigurationError(
                        f"another process has been starting or stopping the servers for {WAIT_SECONDS:g} s; see {path}"
                    ) from None
            time.sleep(0.02)
        yield
    finally:
        os.close(file)
