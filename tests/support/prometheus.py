"""A real Prometheus and its promtool."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support.waiting import eventually

WITHOUT_IT = "Prometheus is not installed: apt-get install prometheus"


class Prometheus:
    """A running Prometheus."""

    def __init__(self, port: int) -> None:
        self.http = httpx.Client(base_url=f"http://127.0.0.1:{port}/api/v1", timeout=10, trust_env=False)

    def query(self, expression: str) -> list[dict[str, Any]]:
        """Return the series that an expression has now, each with its labels and its value; it must be valid."""
        answer = self.http.get("/query", params={"query": expression}).json()
        assert answer["status"] == "success", f"{answer['error']}: {expression}"
        found = answer["data"]["result"]
        return list(found) if answer["data"]["resultType"] == "vector" else [{"metric": {}, "value": found}]

    def rules(self) -> list[dict[str, Any]]:
        """Return the rules, each with its ``health`` and ``lastError``."""
        groups = self.http.get("/rules").json()["data"]["groups"]
        return [rule for group in groups for rule in group["rules"]]

    def is_up(self) -> bool:
        """Whether it responds to queries."""
        try:
            return self.http.get("/query", params={"query": "1"}).status_code == 200
        except httpx.HTTPError:
            return False


def require(name: str) -> str:
    """Return the path of ``prometheus`` or ``promtool``; skip the test where it is missing, but fail it in CI."""
    program = shutil.which(name)
    if program is None:
        if os.environ.get("CI") == "true":
            pytest.fail(WITHOUT_IT)
        pytest.skip(WITHOUT_IT)
    return program


def promtool(*arguments: str | Path, stdin: str = "") -> str:
    """Run promtool, which must find nothing wrong; return what it prints."""
    ran = subprocess.run(
        [require("promtool"), *arguments], input=stdin, capture_output=True, text=True, timeout=30, check=False
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return ran.stdout + ran.stderr


@contextmanager
def prometheus(config: Path) -> Iterator[Prometheus]:
    """Run a Prometheus during the block.

    Args:
        config: its configuration; what it stores is in the same folder.
    """
    with socket.socket() as reserved:
        reserved.bind(("127.0.0.1", 0))
        port = int(reserved.getsockname()[1])
    command = [
        *(require("prometheus"), f"--config.file={config}", f"--storage.tsdb.path={config.parent / 'data'}"),
        *(f"--web.listen-address=127.0.0.1:{port}", "--log.level=warn"),
    ]
    log = config.parent / "log"
    with log.open("wb") as output:
        running = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=output)
    found = Prometheus(port)
    try:
        eventually(lambda: found.is_up() or running.poll() is not None, "Prometheus responds")
        assert running.poll() is None, log.read_text()
        yield found
    finally:
        found.http.close()
        running.kill()
        running.wait(10)
