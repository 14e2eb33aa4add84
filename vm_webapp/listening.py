"""Opens the sockets that listen on an address."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from vm_webapp.errors import ConfigurationError

Address = tuple[int, tuple[Any, ...]]  # a family, and the address that its socket is bound to

BACKLOG = 128
FINISH_SECONDS = 10.0  # the time that open requests get after the server has stopped listening
TRIES = 5
# A name may resolve to addresses that this machine does not have, such as ::1 in a container without IPv6.
NOT_AVAILABLE = frozenset({errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL})


def listen(host: str, port: int) -> list[socket.socket]:
    """Listen on an address; connections queue until they are accepted.

    Args:
        host: an address, or a name with one or more; empty for all addresses of this machine.
        port: the port; 0 for any free one, which is then the same for all addresses.

    Returns:
        A socket for each address.

    Raises:
        ConfigurationError: the address cannot be listened on.
    """
    try:
        return _listen(host, port)
    except UnicodeError as error:
        # From the encoding of a name for DNS: a label is too long, or empty, or holds what no name may hold.
        raise ConfigurationError(
            f"cannot listen on {host}:{port}: this can be no name of a host; choose another with --host"
        ) from error
    except OSError as error:
        # The code of a name that cannot be resolved is no errno.
        if error.errno and not isinstance(error, socket.gaierror):
            reason = os.strerror(error.errno).lower()
        else:
            reason = (error.strerror or str(error)).lower()
        raise ConfigurationError(
            f"cannot listen on {host}:{port}: {reason}; choose another with --host and --port"
        ) from error


def close_all(sockets: list[socket.socket]) -> None:
    """Close the sockets in this process; another process that has inherited them goes on listening."""
    for each in sockets:
        each.close()


def _listen(host: str, port: int) -> list[socket.socket]:
    found = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    addresses = list(dict.fromkeys((family, address) for family, _, _, _, address in found))
    for _ in range(TRIES - 1 if port == 0 and len(addresses) > 1 else 0):
        # The port that is free for the first address may be taken for another: a retry gets another port.
        with suppress(OSError):
            return _listen_on_all(addresses)
    return _listen_on_all(addresses)


def _listen_on_all(addresses: Sequence[Address]) -> list[socket.socket]:
    opened: list[socket.socket] = []
    not_available: OSError | None = None
    try:
        for family, (host, port, *rest) in addresses:
            try:
                opened.append(_listen_on(family, (host, opened[0].getsockname()[1] if opened else port, *rest)))
            except OSError as error:
                if error.errno not in NOT_AVAILABLE:
                    raise
                not_available = error
    except OSError:
        close_all(opened)
        raise
    if not_available is not None and not opened:
        raise not_available
    return opened


def _listen_on(family: int, address: tuple[Any, ...]) -> socket.socket:
    opened = socket.socket(family, socket.SOCK_STREAM)
    try:
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            # As in asyncio: each family has its own socket, and without this the IPv6 one would take IPv4's port too.
            opened.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        opened.bind(address)
        opened.listen(BACKLOG)
        opened.setblocking(False)
    except OSError:
        opened.close()
        raise
    return opened
