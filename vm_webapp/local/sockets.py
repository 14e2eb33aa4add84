"""Short private folders for sockets: a socket's path is limited to about 100 bytes, a workspace's is not."""

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
    """Return a folder for the socket of the server whose data lies in ``data``; the same one every time.

    The caller holds the start lock.

    Args:
        data: the server's data folder; its parent exists.
        owner: user id under which the server runs.

    Raises:
        ConfigurationError: somebody else owns the folder already.
    """
    digest = hashlib.sha256(os.fsencode(data.resolve()) + _identity(data.parent)).hexdigest()[:16]
    folder = _short_folder() / f"vm-{owner}-{digest}"
    try:
        folder.mkdir(mode=0o700)
    except FileExistsError:
        pass
    else:
        os.chown(folder, owner, -1)
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != owner or found.st_mode & 0o077:
        raise ConfigurationError(f"{folder} is not a private folder of ours: remove it and start again")
    return folder


def clear_sockets(folder: Path) -> None:
    """Remove what a server that is gone has left in its socket folder."""
    for left in folder.iterdir():
        left.unlink()


def remove_sockets(folder: Path) -> None:
    """Remove the socket folder of a server that is gone."""
    shutil.rmtree(folder, ignore_errors=True)


def _identity(folder: Path) -> bytes:
    """Return what tells this folder from an earlier one in its place, whose servers may still be going down."""
    path = folder / "id"
    if not path.exists():
        fresh = folder / "id.new"
        fresh.write_text(uuid4().hex)
        fresh.replace(path)
    return path.read_bytes()


def _short_folder() -> Path:
    # Not TMPDIR first: it may be long, and may differ between two terminals that share the servers.
    return SHORT if os.access(SHORT, os.W_OK | os.X_OK) else Path(tempfile.gettempdir())
