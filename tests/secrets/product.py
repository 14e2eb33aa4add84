"""The product as it is deployed, driven from outside: its processes, its commands, and what they wrote."""

from __future__ import annotations

import contextlib
import io
import re
import resource
import socket
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

import httpx
import pytest

from api.operations.operation import PREFIX, Operation
from api.routes.table import ROUTES
from tests.support.commands import CommandResult, command
from tests.support.deployment import Deployment, deployment
from tests.support.processes import Program
from tests.support.waiting import eventually

NEW_RUN = {"workflow": "content_calendar", "request": "a calendar", "auto_approve": True}
CALLED = ("stage.retry_scheduled", "stage.failed", "stage.completed", "approval.requested")


class Product:
    """A deployment, and everything that it has written or answered so far.

    Args:
        env: the environment of its services and commands.
        folder: where the output of its services goes.
        capsys: keeps the output of its commands.
    """

    def __init__(self, env: Mapping[str, str], folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.env = env
        self.answers: dict[str, bytes] = {}
        self._capsys = capsys
        self._said: dict[str, bytes] = {}
        self._folder = folder
        self._programs: list[tuple[str, Program]] = []

    @contextmanager
    def deployed(self, **further: str) -> Iterator[Deployment]:
        """Run an API and a worker during the block, on a machine that writes core files."""
        _, most = resource.getrlimit(resource.RLIMIT_CORE)
        resource.setrlimit(resource.RLIMIT_CORE, (most, most))  # commands that run in this process forbid them
        with deployment({**self.env, **further}, self._folder / uuid4().hex) as running:
            number = len(self._programs)
            self._programs += [
                (f"process {number}, an API", running.api),
                (f"process {number + 1}, a worker", running.worker),
            ]
            yield running

    def command(self, *arguments: str, **further: str) -> CommandResult:
        """Run a command to its end."""
        said = command(self._capsys, {**self.env, **further}, *arguments)
        name = f"{' '.join(arguments)[:60]} ({uuid4().hex[:6]})"
        self._said |= {f"stdout of {name}": said.out.encode(), f"stderr of {name}": said.errors.encode()}
        return said

    def ask(self, client: httpx.Client, method: str, path: str, **options: Any) -> httpx.Response | None:
        """Send a request and keep the whole response, if there is one."""
        try:
            response = client.request(method, path, **options)
        except httpx.HTTPError:
            return None
        name = f"{method} {path[:80]} {response.status_code} ({uuid4().hex[:6]})"
        self.answers[name] = f"{response.headers.raw!r}\n".encode() + response.content
        return response

    def ask_everything(self, client: httpx.Client, run_id: str, **options: Any) -> None:
        """Send a request to every route, and to none."""
        for route in ROUTES:
            body: dict[str, Any] | None = {} if route.method in ("POST", "PATCH") else None
            self.ask(client, route.method, path_of(route, run_id), json=body, **options)
        for path in ("/", "/nothing", f"{PREFIX}/nothing", f"{PREFIX}/health/live/"):
            self.ask(client, "GET", path, **options)

    def ask_in_bytes(self, url: str, sent: bytes) -> None:
        """Send bytes as they are, and keep what comes back."""
        address = urlsplit(url)
        with socket.create_connection((str(address.hostname), int(address.port or 0)), timeout=10) as connection:
            connection.settimeout(2)
            with contextlib.suppress(OSError):
                connection.sendall(sent)
                connection.shutdown(socket.SHUT_WR)
                received = b"".join(iter(lambda: connection.recv(65_536), b""))
                self.answers[f"{sent[:40]!r} ({uuid4().hex[:6]})"] = received

    def output(self) -> dict[str, bytes]:
        """Return what services and commands have printed."""
        return self._said | {
            f"{stream.name} of {name}": stream.read_bytes()
            for name, running in self._programs
            for stream in (running.stdout, running.stderr)
        }

    def files(self, *folders: Path) -> dict[str, bytes]:
        """Return every readable file below these folders but those of the data of servers."""
        found = {}
        for folder in folders:
            for path in folder.rglob("*"):
                if path.is_file() and not {"base", "global", "pg_wal"} & set(path.parts):
                    with contextlib.suppress(OSError):
                        found[str(path)] = path.read_bytes()
        return found

    def wait_for_review(self, client: httpx.Client, run_id: str) -> None:
        """Wait until a draft of a run waits for a person."""

        def waits() -> bool:
            return bool(client.get(f"{PREFIX}/runs/{run_id}").json()["status"] == "waiting_approval")

        eventually(waits, "the draft waits", seconds=30, every=0.1)

    def request_changes(self, client: httpx.Client, run_id: str, feedback: str) -> None:
        """Ask for changes of the draft that waits."""
        run = client.get(f"{PREFIX}/runs/{run_id}").json()
        stage = next(each for each in run["stages"] if each["status"] == "waiting_approval")
        body = {"artifact_sha256": stage["artifact"]["sha256"], "feedback": feedback}
        path = f"{PREFIX}/runs/{run_id}/stages/{stage['key']}/request-changes"
        response = self.ask(client, "POST", path, json=body)
        assert response is not None
        assert response.status_code == 200, response.text

    def keep_archive(self, client: httpx.Client, run_id: str) -> None:
        """Keep what is in the archive of a run, unpacked."""
        packed = client.get(f"{PREFIX}/runs/{run_id}/archive")
        assert packed.status_code == 200, packed.text
        with zipfile.ZipFile(io.BytesIO(packed.content)) as archive:
            for name in archive.namelist():
                self.answers[f"{name} of the archive of {run_id}"] = archive.read(name)


def path_of(route: Operation, run_id: str) -> str:
    """Return the path of a route with values in place of its fields."""
    values = {"run_id": run_id, "stage": "calendar", "key": "calendar", "name": "kimi"}
    return PREFIX + re.sub(r"\{(\w+)\}", lambda field: values.get(field[1], str(uuid4())), route.path)


def client_of(running: Deployment, bearer: str = "", **headers: str) -> httpx.Client:
    """Return a client of the API with this bearer."""
    given = headers | ({"Authorization": f"Bearer {bearer}"} if bearer else {})
    return httpx.Client(base_url=running.url, headers=given, timeout=40, trust_env=False)


def create_run(client: httpx.Client, *, headers: Mapping[str, str] | None = None, **fields: Any) -> str:
    """Create a run; return its id."""
    created = client.post(f"{PREFIX}/runs", json=NEW_RUN | fields, headers=headers)
    assert created.status_code == 201, created.text
    return str(created.json()["id"])


def wait_until_called(client: httpx.Client, run_id: str) -> None:
    """Wait until a model call for a run has ended, however it ended."""

    def called() -> bool:
        events = client.get(f"{PREFIX}/runs/{run_id}/events").json()["items"]
        return any(event["type"] in CALLED for event in events)

    eventually(called, "a model call has ended", seconds=30, every=0.1)


def wait_until_finished(client: httpx.Client, run_id: str) -> dict[str, Any]:
    """Wait until a run is finished; return it."""

    def finished() -> dict[str, Any] | None:
        run: dict[str, Any] = client.get(f"{PREFIX}/runs/{run_id}", params={"wait": 5}).json()
        return run if run["finished_at"] else None

    return eventually(finished, "the run finishes", seconds=40)
