"""Which processes use the servers, and which servers live: file locks, which the kernel releases with the process."""

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
    """This process's membership in the users of a folder's servers. Creating it joins."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        # Not inherited by child processes (O_CLOEXEC): a server that we start must not count as a user.
        self._file: int | None = os.open(folder / USERS, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        fcntl.flock(self._file, fcntl.LOCK_SH)

    @property
    def joined(self) -> bool:
        """Whether this user has not left yet."""
        return self._file is not None

    @property
    def displaced(self) -> bool:
        """Whether the folder was removed while in use; a new one at the same path belongs to other processes."""
        try:
            there = (self.folder / USERS).stat()
        except OSError:
            return True
        return self._file is not None and not os.path.samestat(os.fstat(self._file), there)

    def leave(self) -> bool:
        """Leave and return whether this was the last user. The caller holds the start lock, so none joins meanwhile."""
        if self._file is None:
            return False
        # The exclusive lock is granted only if no other process holds the shared one.
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        else:
            return True
        finally:
            os.close(self._file)
            self._file = None


class ServerLock:
    """A lock that a server holds for as long as any of its processes lives.

    The server and its children inherit the locked file, and the kernel releases the lock with the last of them. Unlike
    a process id it cannot be reused by an unrelated process, belong to a zombie, or be left behind by SIGKILL.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def held(self) -> bool:
        """Return whether any process of the server lives."""
        try:
            with self.taken():
                return False
        except BlockingIOError:
            return True

    @contextmanager
    def taken(self) -> Iterator[int]:
        """Take the lock and yield its descriptor, which the server must inherit.

        Raises:
            BlockingIOError: a process of the server lives.
        """
        # flock, unlike POSIX record locks, belongs to the open file: closing our descriptor at the end does not release
        # the lock while the server has inherited it.
        file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            yield file
        finally:
            os.close(file)

    def wait_until_free(self, seconds: float) -> bool:
        """Wait until no process of the server lives; return False if one still does after that time."""
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
