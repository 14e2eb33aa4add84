"""Finds the process that has the other end of an IPv4 connection."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

ESTABLISHED = "01"


class Connection(NamedTuple):
    """One end of a connection, as the kernel lists it."""

    local_port: int
    remote_port: int
    state: str
    inode: str


def server_of(server_port: int, client_port: int, pids: Iterable[int]) -> int | None:
    """Return the process that has accepted a connection, None if none has or the connection has ended.

    Args:
        server_port: the listening port.
        client_port: the client's port.
        pids: the candidates.
    """
    wanted = (server_port, client_port)
    inodes = {each.inode for each in _connections() if (each.local_port, each.remote_port) == wanted}
    return next((pid for pid in pids if inodes & _sockets_of(pid)), None)


def clients_of(server_port: int, pid: int) -> set[int]:
    """Return the ports of the clients whose connections a process has accepted, and which have not hung up."""
    own = _sockets_of(pid)
    return {
        each.remote_port
        for each in _connections()
        if each.inode in own and each.local_port == server_port and each.state == ESTABLISHED
    }


def _sockets_of(pid: int) -> set[str]:
    """Return the inodes of a process's open sockets, none if the process has ended."""
    found: set[str] = set()
    with contextlib.suppress(OSError):
        for descriptor in Path(f"/proc/{pid}/fd").iterdir():
            with contextlib.suppress(OSError):
                target = str(descriptor.readlink())
                if target.startswith("socket:["):
                    found.add(target.removeprefix("socket:[").removesuffix("]"))
    return found


def _connections() -> Iterator[Connection]:
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        fields = line.split()
        local, remote = (int(address.rsplit(":", 1)[1], 16) for address in fields[1:3])
        yield Connection(local, remote, state=fields[3], inode=fields[9])
