"""A service at its edge: hundreds of half-sent requests, no file descriptor left, and nothing secret in any log."""

from __future__ import annotations

import json
import resource
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support.api_processes import HEADERS, TOKEN, Service, service
from tests.support.forms import only_in_full
from tests.support.waiting import eventually

SECRET = "s3cret-t0ken"
HALF = f"GET /api/v2/runs HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {SECRET}\r\nX-Part: ".encode()
MALFORMED = (HALF + b"\0\r\n\r\n", HALF + b"a\rb\r\n\r\n", HALF + b"x" * 9000, b"\x16\x03\x01" + SECRET.encode())


@pytest.fixture
def env(env: dict[str, str]) -> dict[str, str]:
    """The environment of a managed service of one API process."""
    return env | {"VM_API_TOKEN": TOKEN, "WEB_CONCURRENCY": "1"}


@contextmanager
def files_limited(count: int) -> Iterator[None]:
    """Let processes that are started during the block open so many files."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (count, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


def connect(serving: Service, opened: ExitStack) -> socket.socket:
    """Open a connection that is closed at the end of the block."""
    return opened.enter_context(socket.create_connection(("127.0.0.1", serving.port), timeout=20))


def send_half(serving: Service, opened: ExitStack, count: int) -> list[socket.socket]:
    """Begin so many requests whose headers do not end."""
    connections = []
    for _ in range(count):
        connections.append(connect(serving, opened))
        connections[-1].sendall(HALF)
    return connections


def live(serving: Service) -> bool:
    """Whether liveness answers as soon as a platform expects it."""
    return bool(httpx.get(f"{serving.url}/health/live", timeout=3, trust_env=False).json() == {"status": "live"})


def log_lines(serving: Service) -> list[dict[str, Any]]:
    """Return the lines of the log."""
    return [json.loads(line) for line in serving.program.stderr.read_text().splitlines() if line.startswith("{")]


def answer(connection: socket.socket) -> bytes:
    """Read what the server sends until it ends the connection."""
    received = b""
    with suppress(ConnectionError):
        while part := connection.recv(65536):
            received += part
    return received


def test_half_sent_requests_neither_stop_liveness_nor_fill_the_log(env: dict[str, str], tmp_path: Path) -> None:
    with ExitStack() as opened:
        with files_limited(512):
            serving = opened.enter_context(service(env, tmp_path))
        half = send_half(serving, opened, 400)
        for _ in range(20):
            assert live(serving)
        answers = [answer(each) for each in half]
        timed_out = [each for each in answers if each]
        assert 200 < len(timed_out) < 300, "the others have made room for them"
        assert all(b" 408 " in each and b"/problems/headers_timeout" in each for each in timed_out)
        assert live(serving)
        lines = eventually(
            lambda: (
                sum(line.get("kind") == "slow_headers" for line in log_lines(serving)) == len(timed_out)
                and log_lines(serving)
            ),
            "every line",
        )
        assert [line["level"] for line in lines if line["event"] == "connections.full"] == ["warning"]
        assert not [line for line in lines if line["event"] in ("accept.failed", "loop.error")]
        assert SECRET not in serving.program.output()
        assert len(serving.program.stderr.read_text()) < 200_000


def test_that_no_connection_can_be_accepted_is_logged_once_per_incident(env: dict[str, str], tmp_path: Path) -> None:
    with service(env, tmp_path) as serving, ExitStack() as opened:
        assert live(serving)
        before = resource.prlimit(serving.program.pid, resource.RLIMIT_NOFILE)
        files = len(list(Path(f"/proc/{serving.program.pid}/fd").iterdir()))
        resource.prlimit(serving.program.pid, resource.RLIMIT_NOFILE, (files + 20, before[1]))
        send_half(serving, opened, 40)
        eventually(lambda: any(line["event"] == "accept.failed" for line in log_lines(serving)), "it is logged")
        # Those that it has accepted are ended for their silence; the others are accepted then.
        eventually(lambda: serving_again(serving), "liveness answers", seconds=30)
        (failed,) = [line for line in log_lines(serving) if line["event"] == "accept.failed"]
        assert (failed["level"], failed["error"]) == ("error", "Too many open files")
        assert "Traceback" not in serving.program.output()
        assert len(serving.program.stderr.read_text()) < 50_000


def serving_again(serving: Service) -> bool:
    """Whether liveness answers; it may have to wait for a file."""
    with suppress(httpx.TransportError):
        return live(serving)
    return False


@pytest.mark.parametrize("level", ["DEBUG", only_in_full("INFO"), only_in_full("WARNING")])
def test_nothing_of_a_malformed_request_is_in_any_log(env: dict[str, str], tmp_path: Path, level: str) -> None:
    with service(env | {"LOG_LEVEL": level, "PYTHONASYNCIODEBUG": "1"}, tmp_path) as serving, ExitStack() as opened:
        for sent in MALFORMED:
            connection = connect(serving, opened)
            connection.sendall(sent)
            answered = answer(connection)
            assert b"application/problem+json" in answered
            assert SECRET.encode() not in answered
        for headers in ({"Authorization": f"Bearer {SECRET}"}, HEADERS | {"X-Request-ID": f"a {SECRET}"}):
            httpx.get(f"{serving.url}/runs?token={SECRET}", headers=headers, trust_env=False)
        kinds = [line["kind"] for line in log_lines(serving) if "kind" in line]
        assert kinds == ([] if level == "WARNING" else ["header", "header", "large_headers", "tls"])
        assert serving.program.stop() == 0
        for text in (SECRET, TOKEN, "Traceback"):
            assert text not in serving.program.output()
