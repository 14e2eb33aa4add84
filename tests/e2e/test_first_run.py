"""The first page of the documentation, typed as it stands: from a key to a finished run in five requests."""

from __future__ import annotations

import html
import os
import re
from collections.abc import Iterator
from pathlib import Path

import pexpect
import pytest

from tests.support.folders import open_folder
from tests.support.serving import Served, served

TOKEN = "a-token-of-the-tests"
PROMPT = "ready> "


@pytest.fixture(scope="module")
def service() -> Iterator[Served]:
    """A service with a worker that asks for a key, because it listens on all addresses."""
    with open_folder() as root, served(root / "vm", "--host", "0.0.0.0", VM_API_TOKEN=TOKEN) as running:
        # The address that it prints is not one to connect to from everywhere.
        running.client.base_url = f"http://localhost:{running.client.base_url.port}/api/v2"
        running.client.headers["Authorization"] = f"Bearer {TOKEN}"
        yield running


def blocks(service: Served, page: str = "") -> dict[str, str]:
    """Return the blocks of code of a page by their ids."""
    text = service.client.get(f"/docs{page}").text
    return {id: html.unescape(code) for id, code in re.findall(r'<pre id="([^"]+)">(.*?)</pre>', text, re.DOTALL)}


class Shell:
    """A person's shell, on a terminal of its own."""

    def __init__(self, folder: Path) -> None:
        env = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
        env |= {"PS1": PROMPT, "PS2": "", "HISTFILE": "", "TERM": "dumb"}
        self._bash = pexpect.spawn(
            "bash",
            ["--norc", "--noprofile", "--noediting"],
            cwd=str(folder),
            env=env,
            encoding="utf-8",
            echo=False,
            timeout=60,
            dimensions=(50, 1000),
        )
        self._bash.expect_exact(PROMPT)

    def type(self, code: str, *, key: str | None = None, asked_by: str = "") -> str:
        """Type a block of code, and the key when it is asked for; return what is printed until the next prompt."""
        for line in code.split("\n"):
            self._bash.sendline(line)
        if key is not None:
            self._bash.expect_exact(asked_by)  # what is typed before that may be thrown away
            self._bash.sendline(key)
        said = ""
        # A prompt for each command of the block; the last one belongs to this line.
        self._bash.sendline("echo do''ne $?")
        while not (found := re.search(r"done (\d+)", said)):
            self._bash.expect_exact(PROMPT)
            said += self._bash.before or ""
        assert found[1] == "0", said
        return said.replace("\r\n", "\n")

    def close(self) -> None:
        """Leave."""
        self._bash.close(force=True)


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[Shell]:
    """A shell in a folder of its own."""
    running = Shell(tmp_path)
    yield running
    running.close()


def test_five_requests_with_curl(service: Served, shell: Shell) -> None:
    code = blocks(service)
    shell.type(code["setup"], key=TOKEN)
    assert '"name":"content_calendar"' in shell.type(code["curl-1"])
    assert re.search(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", shell.type(code["curl-2"]))
    events = shell.type(code["curl-3"])
    assert events.index("event: run.created") < events.index("event: run.completed")
    assert '"status":"completed"' in shell.type(code["curl-4"])
    assert "no model was called" in shell.type(code["curl-5"]).lower()


def test_five_requests_with_python(service: Served, shell: Shell, tmp_path: Path) -> None:
    code = blocks(service)
    (tmp_path / "first_run.py").write_text(code["python"], encoding="utf-8")
    said = shell.type(code["python-run"], key=TOKEN, asked_by="Key: ")
    assert "content_calendar - Content calendar" in said
    assert said.index("event: run.completed") < said.index("\ncompleted\n")
    assert "no model was called" in said.lower()


def test_a_review_and_every_page_of_a_list(service: Served, shell: Shell) -> None:
    code = blocks(service)
    shell.type(code["setup"], key=TOKEN)
    said = shell.type(code["review"])
    assert said.index("event: approval.granted") < said.index("event: run.completed")
    pages = blocks(service, "/pagination")["pages"].replace("limit=200", "limit=1")
    said = shell.type(pages)
    runs = service.client.get("/runs").json()["items"]
    assert said.count('{"items":[') == len(runs)
    assert all(each["id"] in said for each in runs)
