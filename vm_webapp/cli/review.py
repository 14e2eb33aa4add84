"""Asks the person at the terminal to decide about a draft: approve, edit, request changes, or stop for now."""

from __future__ import annotations

import asyncio
import os
import shlex
import shutil
import subprocess
import tempfile
from pathlib import Path

from rich.console import Console
from rich.markdown import Markdown
from rich.rule import Rule
from rich.text import Text

from vm_webapp.client import ApiClient
from vm_webapp.client.errors import Refused
from vm_webapp.client.shapes import Run
from vm_webapp.errors import ConfigurationError

QUESTION = "[bold]a[/]pprove · [bold]e[/]dit · request [bold]c[/]hanges · [bold]s[/]top and come back later: "
DECIDED_MEANWHILE = ("draft_changed", "conflict")
EDITORS = ("sensible-editor", "nano", "vi")


async def approve(client: ApiClient, run: Run) -> None:
    """Approve the draft of a run that is ``waiting_approval``, without asking."""
    stage = next(stage for stage in run["stages"] if stage["status"] == "waiting_approval")
    assert stage["artifact"] is not None
    try:
        await client.runs.approve(run["id"], stage["key"], artifact_sha256=stage["artifact"]["sha256"])
    except Refused as error:
        if error.code not in DECIDED_MEANWHILE:
            raise


async def review(client: ApiClient, run: Run, console: Console) -> bool:
    """Show the draft that waits for approval, and ask until the person decides.

    Args:
        client: the client of the API that receives the decision.
        run: a run that is ``waiting_approval``.
        console: the person's terminal.

    Returns:
        False if the person wants to come back later.
    """
    stage = next(stage for stage in run["stages"] if stage["status"] == "waiting_approval")
    artifact, which = stage["artifact"], (run["id"], stage["key"])
    assert artifact is not None
    draft = (await client.runs.artifact(*which, version=artifact["version"])).decode(errors="replace")
    title = Text(f"{stage['title']}, version {artifact['version']}")
    console.print(Rule(title), Markdown(draft), Rule())
    while True:
        answer = (await _ask(console, QUESTION)).strip().lower()
        try:
            if answer in ("a", "approve"):
                await client.runs.approve(*which, artifact_sha256=artifact["sha256"])
                return True
            if answer in ("e", "edit") and (edited := await asyncio.to_thread(_edit, draft, console)) is not None:
                await client.runs.approve(*which, artifact_sha256=artifact["sha256"], content=edited)
                return True
            if answer in ("c", "changes") and (feedback := (await _ask(console, "What should change? ")).strip()):
                await client.runs.request_changes(*which, artifact_sha256=artifact["sha256"], feedback=feedback)
                return True
            if answer in ("s", "stop"):
                return False
        except Refused as error:
            # The draft may have been decided over the API, or the run canceled, while the person was reading.
            if error.code not in DECIDED_MEANWHILE:
                raise
            console.print(f"The draft has changed or has been decided meanwhile: {error}")
            return True


async def _ask(console: Console, question: str) -> str:
    try:
        # On a thread, because the event loop also keeps the worker of a local stack.
        return await asyncio.to_thread(console.input, question)
    except EOFError:
        return "s"


def _edit(draft: str, console: Console) -> str | None:
    """Open a draft in the person's editor; return the edited text, None if nothing was changed."""
    command = os.environ.get("VISUAL") or os.environ.get("EDITOR") or next(filter(shutil.which, EDITORS), None)
    if command is None:
        raise ConfigurationError("no editor is known: set EDITOR")
    with tempfile.TemporaryDirectory(prefix="vm-draft-") as folder:
        file = Path(folder) / "draft.md"
        file.write_text(draft, encoding="utf-8")
        try:
            # Split, because EDITOR may hold arguments, such as "code --wait".
            exit_code = subprocess.run([*shlex.split(command), str(file)], check=False).returncode
        except OSError as error:
            raise ConfigurationError(f"EDITOR cannot be run: {command}: {error.strerror}") from error
        edited = file.read_text(encoding="utf-8")
    if exit_code != 0 or edited == draft or not edited.strip():
        console.print("Nothing was changed.")
        return None
    return edited
