"""A proxy between unix sockets that a test can cut, stall and slow down: a network that fails on command."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self

CHUNK_BYTES = 65_536


class Proxy:
    """Forwards the bytes of connections from one unix socket to another.

    Args:
        listen: the socket's path, which clients connect to. For PostgreSQL it ends with ``.s.PGSQL.5432``.
        target: the path of the real server's socket.
        listener: called for each connection; returns what is called with each piece of data that the client sends.
    """

    def __init__(
        self, listen: Path, target: Path, listener: Callable[[], Callable[[bytes], object]] | None = None
    ) -> None:
        self._listen = listen
        self._target = target
        self._listener_of = listener or (lambda: lambda data: None)
        self._delay = 0.0
        self._flowing = threading.Event()
        self._stopped = threading.Event()
        self._lock = threading.Lock()
        self._listener: socket.socket | None = None
        self._connections: set[socket.socket] = set()

    def __enter__(self) -> Self:
        self.restore()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stopped.set()
        self.cut()
        self._flowing.set()

    def cut(self) -> None:
        """End every connection and refuse new ones, like a server that was killed."""
        with self._lock:
            if self._listener is not None:
                _hang_up(self._listener)
                self._listener = None
            self._listen.unlink(missing_ok=True)
            for connection in self._connections:
                _hang_up(connection)
            self._connections.clear()

    def stall(self) -> None:
        """Forward nothing from now on: connections stay open, and nothing responds."""
        self._flowing.clear()

    def delay(self, seconds: float) -> None:
        """Hold back each piece of data, in either direction, for this long."""
        self._delay = seconds

    def restore(self) -> None:
        """Forward again without delay, first what ``stall`` held back."""
        self._delay = 0.0
        self._flowing.set()
        with self._lock:
            if self._listener is None:
                self._listener = socket.socket(socket.AF_UNIX)
                self._listener.bind(str(self._listen))
                self._listener.listen(128)
                _in_thread(self._accept, self._listener)

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:  # cut
                return
            server = socket.socket(socket.AF_UNIX)
            try:
                server.connect(str(self._target))
            except OSError:
                _hang_up(client)
                _hang_up(server)
                continue
            with self._lock:
                if self._listener is not listener:  # cut during this accept
                    _hang_up(client)
                    _hang_up(server)
                    return
                self._connections |= {client, server}
            _in_thread(self._pump, client, server, self._listener_of())
            _in_thread(self._pump, server, client, lambda data: None)

    def _pump(self, source: socket.socket, sink: socket.socket, listen: Callable[[bytes], object]) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(CHUNK_BYTES):
                listen(data)
                self._flowing.wait()
                self._stopped.wait(self._delay)
                sink.sendall(data)
        with self._lock:
            self._connections -= {source, sink}
        _hang_up(source)
        _hang_up(sink)


def _in_thread(function: Callable[..., object], *arguments: object) -> None:
    threading.Thread(target=function, args=arguments, daemon=True).start()


def _hang_up(endpoint: socket.socket) -> None:
    """Close a socket."""
    # ``close`` alone does not wake a thread that is blocked in ``recv`` or ``accept`` on it; ``shutdown`` does.
    with contextlib.suppress(OSError):
        endpoint.shutdown(socket.SHUT_RDWR)
    endpoint.close()
