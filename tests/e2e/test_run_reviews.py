"""``run`` on a terminal: a person reviews the drafts of a run, and may come back later."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path

import pexpect
import pytest

from tests.fakes.behaviours import completion
from tests.fakes.model_server import ModelServer
from tests.support.processes import ROOT, UNSET
from tests.support.ready_postgres import fill_workspace

QUESTION = r"come back later: "


def terminal(folder: Path, model: ModelServer, *arguments: str) -> pexpect.spawn[str]:
    """Start ``run`` on a terminal of its own."""
    fill_workspace(folder / "workspace")
    editor = folder / "editor"
    editor.write_text('#!/bin/sh\nprintf "# Edited by hand" > "$1"\n')
    editor.chmod(0o755)
    env = {name: value for name, value in os.environ.items() if name not in UNSET}
    env |= {
        "VM_WORKSPACE_ROOT": str(folder / "workspace"),
        "KIMI_API_KEY": "sk-test-key",
        "KIMI_BASE_URL": model.base_url,
        "EDITOR": str(editor),
        "TERM": "xterm",
    }
    command = ["-m", "vm_webapp", "run", *arguments]
    return pexpect.spawn(
        sys.executable, command, env=env, cwd=str(ROOT), timeout=40, encoding="utf-8", dimensions=(50, 120)
    )


def test_requested_changes_an_edit_an_interruption_and_approvals(folder: Path, model: ModelServer) -> None:
    texts = ("# Research", "# Voice, first", "# Voice, second", "# Positioning", "# Keywords", "# Brief")
    model.enqueue(*map(completion, texts))
    output = str(folder / "documents")
    first = terminal(folder, model, "A CRM for dental clinics", "--workflow", "foundation", "--output", output)
    first.expect("Voice, first")
    first.expect(QUESTION)
    first.sendline("c")
    first.expect("What should change")
    first.sendline("warmer, please")
    first.expect("Voice, second")
    first.expect(QUESTION)
    first.sendline("e")
    first.expect("Positioning, version 1")
    first.expect(QUESTION)
    first.sendline("s")
    first.expect(r"run --resume ([0-9a-f-]{36})")
    assert first.match is not None
    assert isinstance(first.match, re.Match)
    run_id = first.match.group(1)
    first.expect(pexpect.EOF)
    first.close()
    assert first.exitstatus == 0
    between = terminal(folder, model, "--resume", run_id, "--output", output)
    between.expect("Positioning, version 1")
    between.expect(QUESTION)
    between.sendintr()
    between.expect(f"Come back with: .*run --resume {run_id}")
    between.expect(pexpect.EOF)
    between.close()
    assert between.exitstatus == 130
    second = terminal(folder, model, "--resume", run_id, "--output", output)
    for title in ("Positioning, version 1", "Keywords and topics, version 1"):
        second.expect(title)
        second.expect(QUESTION)
        second.sendline("a")
    second.expect("completed: 5 artifacts")
    second.expect(pexpect.EOF)
    second.close()
    assert second.exitstatus == 0
    written = {path.name: path.read_text() for path in (folder / "documents").iterdir()}
    assert written["02-brand_voice.md"] == "# Edited by hand"
    assert written["05-brief.md"] == "# Brief"
    prompts = [str(request.body["messages"][1]["content"]) for request in model.requests]
    assert "warmer, please" in prompts[2]
    assert "# Voice, first" in prompts[2]
    assert "# Edited by hand" in prompts[3]
    assert "# Voice, second" not in prompts[3]


@pytest.mark.only_in_full
def test_yes_approves_without_asking(folder: Path, model: ModelServer) -> None:
    running = terminal(folder, model, "A CRM", "--yes", "--output", str(folder / "documents"))
    running.expect("Reviews are passed without asking")
    running.expect("completed: 3 artifacts")
    running.expect(pexpect.EOF)
    running.close()
    assert running.exitstatus == 0
