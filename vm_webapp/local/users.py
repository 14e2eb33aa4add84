"""Who uses the servers, and which servers live: kernel locks, which die with their process."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from vm_webapp.errors import ConfigurationError

WAIT_SECONDS = 60.0
USERS = "users.lock"


class Users:
    """One user of a folder's servers, joined when made."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._file: int | None = os.open(folder / USERS, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        fcntl.flock(self._file, fcntl.LOCK_SH)

    @property
    def joined(self) -> bool:
        """Whether this user has not left yet."""
        return self._file is not None

    @property
    def displaced(self) -> bool:
        """Whether somebody removed the folder under us; what is in its place, if anything, is not ours."""
        try:
            there = (self.folder / USERS).stat()
        except OSError:
            return True
        return self._file is not None and not os.path.samestat(os.fstat(self._file), there)

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


class LifeLine:
    """Whether a server that we started still has a process.

    The server inherits a locked file, and so do its children; the kernel drops the lock with the last of them. Unlike a
    process id it cannot be recycled by a stranger, outlive its process as a zombie, or be left behind by SIGKILL.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def held(self) -> bool:
        """Return whether any process of the server lives."""
        try:
            with self.handed_over():
                return False
        except BlockingIOError:
            return True

    @contextmanager
    def handed_over(self) -> Iterator[int]:
        """Yield the descriptor that the server must inherit.

        Raises:
            BlockingIOError: the server lives already.
        """
        file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            yield file
        finally:
            os.close(file)

    def wait_for_end(self, seconds: float) -> bool:
        """Wait until no process of the server lives; return False when one still does."""
        deadline = time.monotonic() + seconds
        while self.held():
            if time.monotonic() > deadline:
                return False
            time.sleep(0.01)
        return True


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
