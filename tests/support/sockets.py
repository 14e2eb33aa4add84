"""Which process has the other end of a connection."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from pathlib import Path


def server_of(server_port: int, client_port: int, pids: Iterable[int]) -> int | None:
    """Return the process that has accepted a connection over IPv4, None while it waits or where it is gone.

    Args:
        server_port: the port that is listened on.
        client_port: the port of the end that connected.
        pids: the processes that it may be.
    """
    inode = _inode(server_port, client_port)
    for pid in pids if inode else ():
        with contextlib.suppress(OSError):  # it may just have ended
            for descriptor in Path(f"/proc/{pid}/fd").iterdir():
                with contextlib.suppress(OSError):
                    if str(descriptor.readlink()) == f"socket:[{inode}]":
                        return pid
    return None


def _inode(local_port: int, remote_port: int) -> str | None:
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        fields = line.split()
        ports = [int(address.rsplit(":", 1)[1], 16) for address in fields[1:3]]
        if ports == [local_port, remote_port] and fields[9] != "0":
            return fields[9]
    return None
