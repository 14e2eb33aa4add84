"""The account that the embedded PostgreSQL runs under when we are root: PostgreSQL itself refuses to run as root."""

from __future__ import annotations

import fcntl
import os
import pwd
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from vm_webapp.errors import ConfigurationError

ACCOUNT = "vm-webapp-pg"
ACCOUNTS_FOLDER = "/etc"


def servers_user() -> pwd.struct_passwd | None:
    """Return the account for the server, made at its first use; None when we are not root and need no other.

    Raises:
        ConfigurationError: the account cannot be made.
    """
    if os.geteuid() != 0:
        return None
    # Two useradd at once may both succeed, with different ids, and the second one's is what remains.
    with _alone():
        with suppress(KeyError):
            return pwd.getpwnam(ACCOUNT)
        return _make()


def _make() -> pwd.struct_passwd:
    made = subprocess.run(
        ["useradd", "--system", "--no-create-home", "--shell", "/usr/sbin/nologin", ACCOUNT],
        check=False,
        capture_output=True,
        text=True,
    )
    try:
        return pwd.getpwnam(ACCOUNT)
    except KeyError:
        raise ConfigurationError(
            f"PostgreSQL does not run as root and the user {ACCOUNT} cannot be made: {made.stderr.strip()}"
        ) from None


@contextmanager
def _alone() -> Iterator[None]:
    """Keep every other process that does the same out for the block; its end frees the lock, however it comes."""
    folder = os.open(ACCOUNTS_FOLDER, os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        yield
    finally:
        os.close(folder)
