"""A port in front of an API that a test can shut and open again."""

from __future__ import annotations

import socket
import threading
from types import TracebackType
from typing import Self


class Gate:
    """Forwards connections to a port of loopback while it is open, and resets them while it is shut.

    Attributes:
        url: the URL that leads through the gate.
    """

    def __init__(self, target: int) -> None:
        self._target = target
        self._open = True
        self._passing: set[socket.socket] = set()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"

    def __enter__(self) -> Self:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.shut()
        self._listener.close()

    def shut(self) -> None:
        """Close every connection, and each new one at once."""
        self._open = False
        for passing in list(self._passing):
            _close(passing)

    def open(self) -> None:
        """Forward new connections again."""
        self._open = True

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            if not self._open:
                _close(client)
                continue
            server = socket.create_connection(("127.0.0.1", self._target))
            self._passing |= {client, server}
            for ends in ((client, server), (server, client)):
                threading.Thread(target=self._pump, args=ends, daemon=True).start()

    def _pump(self, source: socket.socket, sink: socket.socket) -> None:
        try:
            while data := source.recv(65_536):
                sink.sendall(data)
        except OSError:
            pass
        for each in (source, sink):
            _close(each)
            self._passing.discard(each)


def _close(connection: socket.socket) -> None:
    try:
        connection.shutdown(socket.SHUT_RDWR)
    except OSError:
        pass
    finally:
        connection.close()
