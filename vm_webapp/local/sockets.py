"""Short private folders for sockets: a socket's path is limited to about 100 bytes, and a workspace's may be longer."""

from __future__ import annotations

import hashlib
import os
import shutil
import stat
import tempfile
from pathlib import Path
from uuid import uuid4

from vm_webapp.errors import ConfigurationError

SHORT = Path("/tmp")  # noqa: S108 - what is made in it is private and checked


def socket_folder(data: Path, *, owner: int) -> Path:
    """Return the folder for the sockets of the server with this data folder; always the same one, created if missing.

    The caller holds the start lock.

    Args:
        data: the server's data folder; its parent exists.
        owner: user id under which the server runs.

    Raises:
        ConfigurationError: the folder exists and is not a private folder of this owner.
    """
    digest = hashlib.sha256(os.fsencode(data.resolve()) + _identity(data.parent)).hexdigest()[:16]
    folder = _short_folder() / f"vm-{owner}-{digest}"
    try:
        folder.mkdir(mode=0o700)
    except FileExistsError:
        pass
    else:
        os.chown(folder, owner, -1)
    # /tmp is open to everybody: another user may have created this name, or a link, to get at our connections.
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != owner or found.st_mode & 0o077:
        raise ConfigurationError(f"{folder} is not a private folder of ours: remove it and start again")
    return folder


def clear_sockets(folder: Path) -> None:
    """Remove what a server that has ended left in its socket folder."""
    for left in folder.iterdir():
        left.unlink()


def remove_sockets(folder: Path) -> None:
    """Remove the socket folder of a server that has ended."""
    shutil.rmtree(folder, ignore_errors=True)


def _identity(folder: Path) -> bytes:
    """Return the id of this folder, which an earlier folder at the same path did not have.

    The servers of such an earlier folder may still be shutting down and must not share a socket with the new ones.
    """
    path = folder / "id"
    if not path.exists():
        # Written beside it and renamed, so that a process killed in between leaves no empty id.
        fresh = folder / "id.new"
        fresh.write_text(uuid4().hex)
        fresh.replace(path)
    return path.read_bytes()


def _short_folder() -> Path:
    # /tmp before TMPDIR: that may be long, and may differ between two terminals that share the servers.
    return SHORT if os.access(SHORT, os.W_OK | os.X_OK) else Path(tempfile.gettempdir())
