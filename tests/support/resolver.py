"""A name server that does not respond."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

NAME = "redis.internal"
LONGEST_SECONDS = 20.0


@contextmanager
def hanging_resolver(name: str = NAME) -> Iterator[threading.Event]:
    """Make lookups of a name hang until the block ends; yield an event that the first lookup sets."""
    asked, over = threading.Event(), threading.Event()
    resolve = socket.getaddrinfo

    def resolve_or_hang(host: str, *args: Any, **kwargs: Any) -> Any:
        if host not in (name, name.encode()):
            return resolve(host, *args, **kwargs)
        asked.set()
        over.wait(LONGEST_SECONDS)
        raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket, "getaddrinfo", resolve_or_hang)
        try:
            yield asked
        finally:
            over.set()
