"""Short private folders for sockets: a socket's path is limited to about 100 bytes, a workspace's is not."""

from __future__ import annotations

import hashlib
import os
import stat
import tempfile
from pathlib import Path

from vm_webapp.errors import ConfigurationError


def socket_folder(data: Path, *, owner: int) -> Path:
    """Return a folder for the socket of the server whose data lies in ``data``; the same one every time.

    Args:
        data: the server's data folder.
        owner: user id under which the server runs.

    Raises:
        ConfigurationError: somebody else owns the folder already.
    """
    digest = hashlib.sha256(os.fsencode(data.resolve())).hexdigest()[:16]
    folder = Path(tempfile.gettempdir()) / f"vm-{owner}-{digest}"
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
