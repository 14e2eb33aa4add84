"""A ``serve`` with two API processes, and clients that send requests to it all the time."""

from __future__ import annotations

import http.client
import json
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit
from uuid import uuid4

import httpx

from tests.support.deployment import address_of
from tests.support.processes import Program, program
from tests.support.serving import api_pids
from tests.support.sockets import clients_of, server_of
from tests.support.waiting import eventually

TOKEN = "a-token-of-the-tests"
HEADERS = {"Authorization": f"Bearer {TOKEN}", "Content-Type": "application/json"}
NEW_RUN = {"workflow": "smoke", "request": "anything"}


class Service:
    """A running ``serve`` with two API processes."""

    def __init__(self, running: Program) -> None:
        self.program = running
        self.url = f"{address_of(running)}/api/v2"
        port = urlsplit(self.url).port
        assert port is not None
        self.port = port

    def pids(self) -> list[int]:
        """Return the process ids of its API processes."""
        return api_pids(self.program)

    def connect(self) -> http.client.HTTPConnection:
        """Open a connection, which one of the processes accepts."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=40)
        connection.connect()
        return connection

    def connect_to_each(self, count: int) -> dict[int, list[http.client.HTTPConnection]]:
        """Return so many connections to each process, or more, by its id."""
        found: dict[int, list[http.client.HTTPConnection]] = {pid: [] for pid in self.pids()}

        def look() -> bool:
            connection = self.connect()
            # A connection on which no headers come is closed after some seconds.
            connection.request("GET", "/api/v2/health/live")
            connection.getresponse().read()
            pid = eventually(lambda: self.server_of(connection), "it is accepted")
            found[pid].append(connection)
            return all(len(connections) >= count for connections in found.values())

        eventually(look, "connections to each process")
        return found

    def server_of(self, connection: http.client.HTTPConnection | int) -> int | None:
        """Return which process has accepted a connection, or the one from this port."""
        port = connection if isinstance(connection, int) else port_of(connection)
        return server_of(self.port, port, self.pids())

    def clients_of(self, pid: int) -> set[int]:
        """Return the ports of the clients that wait for a response of a process."""
        return clients_of(self.port, pid)

    def live(self) -> bool:
        """Whether it responds on a new connection."""
        return httpx.get(f"{self.url}/health/live", timeout=30, trust_env=False).is_success

    def kill_one(self) -> None:
        """Kill a process, and wait until another has replaced it."""
        killed = self.pids()[0]
        os.kill(killed, signal.SIGKILL)
        eventually(lambda: self._is_replaced(killed), "the process is replaced")

    def _is_replaced(self, pid: int) -> bool:
        return self.program.process.poll() is not None or (pid not in self.pids() and len(self.pids()) == 2)


@contextmanager
def service(env: dict[str, str], folder: Path, *arguments: str) -> Iterator[Service]:
    """Run ``serve`` on a free port during the block."""
    with program("serve", "--port", "0", *arguments, env=env, folder=folder / "log") as running:
        serving, processes = Service(running), int(env["WEB_CONCURRENCY"] or "1")
        eventually(lambda: processes == 1 or len(serving.pids()) == processes, "every process")
        yield serving


def port_of(connection: http.client.HTTPConnection) -> int:
    """Return the port of our end of a connection."""
    assert connection.sock is not None
    return int(connection.sock.getsockname()[1])


@dataclass(frozen=True)
class Attempt:
    """A request that got no response, and the port that it was sent from."""

    port: int
    error: str


class Client:
    """Creates runs one after another; it repeats each request, with its own idempotency key, until it gets a response.

    Attributes:
        created: key → the id of the run.
        failed: the requests that got no response.
        port: the port of the request in progress, None between two requests.
    """

    def __init__(self, served: Service) -> None:
        self.created: dict[str, str] = {}
        self.failed: list[Attempt] = []
        self.port: int | None = None
        self._service = served
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._thread.join(30)
        assert not self._thread.is_alive()

    def _run(self) -> None:
        while not self._ended.is_set():
            key = str(uuid4())
            while not self._post(key):
                pass

    def _post(self, key: str) -> bool:
        connection = self._service.connect()
        self.port = port = port_of(connection)
        try:
            connection.request("POST", "/api/v2/runs", json.dumps(NEW_RUN), HEADERS | {"Idempotency-Key": key})
            response = connection.getresponse()
            body = response.read()
        except (OSError, http.client.HTTPException) as error:
            self.failed.append(Attempt(port, repr(error)))
            return False
        finally:
            self.port = None
            connection.close()
        if response.status == 409:  # PostgreSQL has not yet noticed that the process that held the key is dead
            return False
        assert response.status == 201, body
        self.created[key] = json.loads(body)["id"]
        return True


def freeze_busy_process(service: Service) -> tuple[int, set[int]]:
    """Stop a process during requests; return its id and the ports of these requests' clients."""

    def freeze() -> tuple[int, set[int]] | None:
        pid = service.pids()[0]
        os.kill(pid, signal.SIGSTOP)
        # A client that has its response hangs up within a moment; the others stay.
        seen = [service.clients_of(pid)]

        def settled() -> bool:
            seen.append(service.clients_of(pid))
            return seen[-1] == seen[-2]

        eventually(settled, "the clients with a response have hung up", every=0.1)
        if seen[-1]:
            return pid, seen[-1]
        os.kill(pid, signal.SIGCONT)
        return None

    return eventually(freeze, "a process is busy")
