"""The account under which root starts the embedded PostgreSQL, which refuses to run as root."""

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
    """Return the account for the server, created at its first use; None if this process is not root and needs none.

    Raises:
        ConfigurationError: the account cannot be created.
    """
    if os.geteuid() != 0:
        return None
    # Two useradd at once may both succeed, with different ids; only the second one's id remains in /etc/passwd.
    with _exclusive():
        with suppress(KeyError):
            return pwd.getpwnam(ACCOUNT)
        return _create()


def _create() -> pwd.struct_passwd:
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
def _exclusive() -> Iterator[None]:
    """Hold a machine-wide lock for the block; the kernel releases it however the process ends."""
    # /etc itself is locked: it exists on every machine, whereas a lock file would need a place and an owner.
    folder = os.open(ACCOUNTS_FOLDER, os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        yield
    finally:
        os.close(folder)
