"""Runs ``run`` on a terminal of its own, against the API of a ``serve`` that is already running."""

from __future__ import annotations

import os
import re
import shlex
import sys
import termios
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pexpect

from tests.fakes.behaviours import Behaviour, completion
from tests.fakes.model_server import ModelServer
from tests.support.processes import ROOT, UNSET
from tests.support.serving import Served
from tests.support.waiting import eventually

# How hints begin in a process that is started as below, and not by uv.
AS_STARTED = shlex.join([sys.executable, "-m", "vm_webapp"])
NOT_BY_UV = {"UV_RUN_RECURSION_DEPTH": ""}
# What would decide instead of the terminal and the test; readline sets COLUMNS for child processes.
UNSET_HERE = (*UNSET, "VISUAL", "NO_COLOR", "COLUMNS", "LINES")
QUESTION = "come back later: "
REMARK = "What should change\\? "
STYLES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
# Titles with what rich takes for markup: a closing tag raised an error, and others were left out.
TWO_REVIEWS = """\
title: Two [reviews]
description: Two drafts in [square] brackets.
stages:
  - key: copy
    title: Copy [EN]
    requires_approval: true
  - key: legal
    title: Legal [/INST]
    requires_approval: true
"""


def write_workflow(folder: Path) -> Path:
    """Write a workflow with two stages that both wait for approval; return the folder for ``VM_WORKFLOWS_PATH``."""
    workflow = folder / "workflows" / "two_reviews"
    workflow.mkdir(parents=True)
    (workflow / "workflow.yaml").write_text(TWO_REVIEWS)
    for stage in ("copy", "legal"):
        (workflow / f"{stage}.md").write_text("{{ request }}{{ feedback }}")
    return workflow.parent


class Desk:
    """A reviewer's desk: an API with a model, and terminals on which ``run`` asks.

    Attributes:
        model: the model server.
        folder: a folder for editors and artifacts.
    """

    def __init__(self, serving: Served, model: ModelServer, folder: Path) -> None:
        self.model = model
        self.folder = folder
        self.client = serving.client
        self.address = str(serving.client.base_url).removesuffix("/api/v2/")
        self._env = {name: value for name, value in os.environ.items() if name not in UNSET_HERE}

    def waiting_run(self, *drafts: str | Behaviour) -> str:
        """Create a run whose first draft waits for approval; return its id. The other texts are written later."""
        self.model.enqueue(*(completion(draft) if isinstance(draft, str) else draft for draft in drafts))
        created = self.client.post("/runs", json={"workflow": "two_reviews", "request": "a text"})
        assert created.status_code == 201, created.text
        run_id: str = created.json()["id"]
        eventually(lambda: self.status(run_id) == "waiting_approval", "the draft waits", seconds=30)
        return run_id

    def status(self, run_id: str) -> str:
        """Return the status of a run."""
        return str(self.client.get(f"/runs/{run_id}").json()["status"])

    def stage(self, run_id: str, key: str) -> dict[str, Any]:
        """Return a stage of a run."""
        stages = self.client.get(f"/runs/{run_id}").json()["stages"]
        return next(stage for stage in stages if stage["key"] == key)

    def approved(self, run_id: str) -> list[str]:
        """Return the keys of the stages that somebody has approved."""
        events = self.client.get(f"/runs/{run_id}/events").json()["items"]
        return [event["stage"] for event in events if event["type"] == "approval.granted"]

    def remarks(self, run_id: str) -> list[str]:
        """Return what somebody asked to change."""
        events = self.client.get(f"/runs/{run_id}/events").json()["items"]
        return [event["data"]["feedback"] for event in events if event["type"] == "changes.requested"]

    def text(self, run_id: str, key: str) -> bytes:
        """Return the newest artifact of a stage."""
        return self.client.get(f"/runs/{run_id}/artifacts/{key}").content

    def editor(self, script: str) -> str:
        """Write a shell script that edits ``$1``; return its path."""
        path = self.folder / f"editor-{len(list(self.folder.iterdir()))}"
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)
        return str(path)

    @contextmanager
    def terminal(
        self, run_id: str, *, columns: int = 120, base_url: str = "", env: Mapping[str, str] | None = None
    ) -> Iterator[pexpect.spawn[str]]:
        """Come back to a run on a terminal, until the end of the block."""
        output = str(self.folder / f"artifacts-{run_id}")
        command = ["-m", "vm_webapp", "run", "--resume", run_id, "--base-url", base_url or self.address]
        running = pexpect.spawn(
            sys.executable,
            [*command, "--output", output],
            env={**self._env, "TERM": "xterm", "TMPDIR": str(self.folder), **NOT_BY_UV, **(env or {})},
            cwd=str(ROOT),
            timeout=30,
            encoding="utf-8",
            dimensions=(50, columns),
        )
        try:
            yield running
        finally:
            running.close(force=True)


def ended(running: pexpect.spawn[str]) -> tuple[int | None, str]:
    """Wait for the end of a command; return its exit code and what it printed last, without styles."""
    running.expect(pexpect.EOF)
    said = STYLES.sub("", running.before or "")
    running.close()
    return running.exitstatus, said


def is_sane(running: pexpect.spawn[str]) -> bool:
    """Return whether a terminal echoes, reads lines and makes signals of keys."""
    attributes = termios.tcgetattr(running.child_fd)
    wanted = termios.ICANON | termios.ECHO | termios.ISIG | termios.IEXTEN
    return attributes[3] & wanted == wanted and bool(attributes[0] & termios.ICRNL)
