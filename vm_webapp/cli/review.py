"""Asks the person at the terminal to decide about a draft: approve, edit, request changes, or stop for now."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Awaitable, Iterator
from contextlib import contextmanager
from enum import Enum
from pathlib import Path

from rich.console import Console
from rich.control import Control
from rich.rule import Rule
from rich.segment import ControlType
from rich.syntax import Syntax
from rich.text import Text

from vm_webapp.cli.editor import open_in_editor
from vm_webapp.cli.kept_texts import KeptTexts
from vm_webapp.cli.line_ends import with_line_ends_of
from vm_webapp.cli.prompt import Prompt
from vm_webapp.cli.terminal import say, visible
from vm_webapp.client import ApiClient
from vm_webapp.client.errors import ApiError, Refused
from vm_webapp.client.shapes import Run, Stage
from vm_webapp.errors import ConfigurationError

QUESTION = Text("approve · edit · request changes · stop and come back later: ")
QUESTION.highlight_regex(r"\ba(?=pprove)|\be(?=dit)|\bc(?=hanges)|\bs(?=top)", "bold")
REMARK = Text("What should change? ")
KEPT_REMARK = Text("What should change? (Enter alone sends the remark that is kept) ")
ANSWERS = {word: word[0] for word in ("approve", "edit", "changes", "stop")} | {letter: letter for letter in "aecs"}
DECIDED_MEANWHILE = ("draft_changed", "conflict")
PIECE_CHARACTERS = 2_000
LEAVE_ALTERNATE_SCREEN = Control((ControlType.DISABLE_ALT_SCREEN,), (ControlType.SHOW_CURSOR,))


class Outcome(Enum):
    """What came of an answer."""

    DECIDED = "decided"
    OVERTAKEN = "somebody else decided, or the draft has changed"
    UNDECIDED = "nothing was decided: ask again"


async def approve(client: ApiClient, run: Run) -> None:
    """Approve the draft of a run that is ``waiting_approval``, without asking."""
    stage = _waiting(run)
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
    stage = _waiting(run)
    assert stage["artifact"] is not None
    content = await client.runs.artifact(run["id"], stage["key"], version=stage["artifact"]["version"])
    draft = content.decode(errors="replace")
    prompt = Prompt(console)
    with prompt.opened():
        with _ended_by_ctrl_c():
            with console.capture() as shown:
                _show(console, stage, draft)
            _write(console, shown.get())
        return await _Review(client, run["id"], stage, draft, console, prompt).ask()


def _waiting(run: Run) -> Stage:
    return next(stage for stage in run["stages"] if stage["status"] == "waiting_approval")


def _show(console: Console, stage: Stage, draft: str) -> None:
    artifact = stage["artifact"]
    assert artifact is not None
    # As it was written: rendered Markdown leaves out comments, link targets and what is too wide for a table's column.
    text = Syntax("", "markdown", theme="ansi_dark", word_wrap=True).highlight(visible(draft))
    text.rstrip()
    console.print(Rule(Text(visible(f"{stage['title']}, version {artifact['version']}"))), text, Rule())
    # An API of an earlier build does not send these.
    if artifact.get("truncated"):
        console.print(
            Text("This draft is truncated: the model reached its budget, so the text breaks off.", "bold red")
        )
    if note := artifact.get("note"):
        say(console, f"Note: {note}")


def _write(console: Console, text: str) -> None:
    # In pieces and not by the console, which would print all of it once more after Ctrl-C.
    for start in range(0, len(text), PIECE_CHARACTERS):
        console.file.write(text[start : start + PIECE_CHARACTERS])
        console.file.flush()


@contextmanager
def _ended_by_ctrl_c() -> Iterator[None]:
    """Let Ctrl-C raise KeyboardInterrupt within the block, in which the event loop could not notice it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


class _Review:
    """One review; what the person writes stays in a file until the API has it."""

    def __init__(
        self, client: ApiClient, run_id: str, stage: Stage, draft: str, console: Console, prompt: Prompt
    ) -> None:
        assert stage["artifact"] is not None
        self._runs = client.runs
        self._which = (run_id, stage["key"])
        self._sha256 = stage["artifact"]["sha256"]
        self._draft = draft
        self._console = console
        self._prompt = prompt
        self._kept = KeptTexts(stage["key"])
        self._remark_kept = ""

    async def ask(self) -> bool:
        """Ask until something is decided; return False if the person wants to come back later."""
        decisions = {"a": self._approve, "e": self._edit, "c": self._request_changes}
        outcome = Outcome.UNDECIDED
        while outcome is Outcome.UNDECIDED:
            answer = await self._answer()
            if answer == "s":
                break
            if answer in decisions:
                outcome = await decisions[answer]()
        await self._prompt.drop_rest()
        return outcome is not Outcome.UNDECIDED

    async def _answer(self) -> str:
        """Return the letter of an answer, or an empty string for a wrong one."""
        try:
            return ANSWERS.get((await self._prompt.ask(QUESTION)).strip().lower(), "")
        except EOFError:
            return "s"

    async def _approve(self) -> Outcome:
        return await self._send(self._runs.approve(*self._which, artifact_sha256=self._sha256))

    async def _edit(self) -> Outcome:
        try:
            file = self._kept.edit
            if not file.exists():
                file.write_bytes(self._draft.encode())
        except OSError as error:
            self._say(f"There is no place for the file to edit: {error}")
            return Outcome.UNDECIDED
        edited = await self._edited(file)
        if edited is None:
            return Outcome.UNDECIDED
        decision = self._runs.approve(*self._which, artifact_sha256=self._sha256, content=edited)
        return await self._send_kept(decision, file, again="e opens it again")

    async def _edited(self, file: Path) -> str | None:
        """Open the editor and return the text that it left, None if it should not be sent."""
        self._say(f"Editing {file}")
        try:
            with self._kept_if_interrupted(file), self._prompt.suspended():
                code = await open_in_editor(file)
            saved = await asyncio.to_thread(file.read_bytes)
        except ConfigurationError as error:
            self._say(f"Nothing was changed: {error}")
            self._remove_if_unchanged(file)
            return None
        except OSError as error:
            self._say(f"The edited text cannot be read: {error}")
            return None
        if code < 0 and not self._console.is_dumb_terminal:
            # An editor that was killed leaves the terminal on its own page and without a cursor.
            self._console.control(LEAVE_ALTERNATE_SCREEN)
        return self._text_of(saved, code, file)

    def _text_of(self, saved: bytes, code: int, file: Path) -> str | None:
        """Return what the editor saved as the text to send; if it is none, say why and return None."""
        where = _where(file, again="e opens it again")
        try:
            edited = with_line_ends_of(self._draft, saved.decode())
        except UnicodeDecodeError as error:
            self._say(f"The edited text is not UTF-8: {error.reason}. {where}")
            return None
        if edited == self._draft or not edited.strip():
            self._say("Nothing was changed." if edited.strip() else "The edited text is empty: nothing was changed.")
            self._kept.remove(file)
            return None
        if code != 0:
            ended = f"was ended by signal {-code}" if code < 0 else f"ended with exit code {code}"
            self._say(f"The editor {ended}: nothing was sent. {where}")
            return None
        return edited

    def _remove_if_unchanged(self, file: Path) -> None:
        if file.read_bytes() == self._draft.encode():
            self._kept.remove(file)

    async def _request_changes(self) -> Outcome:
        try:
            remark = (await self._prompt.ask_text(KEPT_REMARK if self._remark_kept else REMARK)).strip()
        except EOFError:
            remark = ""
        except asyncio.CancelledError:
            if typed := self._prompt.typed.strip():
                self._say(_where(self._keep_remark(typed)))
            raise
        remark = remark or self._remark_kept
        if not remark:
            return Outcome.UNDECIDED
        file = self._keep_remark(remark)
        decision = self._runs.request_changes(*self._which, artifact_sha256=self._sha256, feedback=remark)
        return await self._send_kept(decision, file, again="c and Enter send it again")

    def _keep_remark(self, remark: str) -> Path | None:
        self._remark_kept = remark
        try:
            self._kept.remark.write_text(remark, encoding="utf-8")
            return self._kept.remark
        except OSError as error:
            self._say(f"The remark cannot be kept in a file: {error}")
            return None

    async def _send_kept(self, decision: Awaitable[Run], file: Path | None, *, again: str) -> Outcome:
        with self._kept_if_interrupted(file):
            outcome = await self._send(decision)
        if outcome is not Outcome.DECIDED:
            self._say(_where(file, again=again if outcome is Outcome.UNDECIDED else ""))
        elif file is not None:
            self._kept.remove(file)
        return outcome

    async def _send(self, decision: Awaitable[Run]) -> Outcome:
        try:
            await decision
        except ApiError as error:
            # The draft may have been decided over the API, or the run canceled, while the person was reading.
            if isinstance(error, Refused) and error.code in DECIDED_MEANWHILE:
                self._say(f"The draft has changed or has been decided meanwhile: {error}")
                return Outcome.OVERTAKEN
            self._say(f"Nothing was decided: {error}")
            return Outcome.UNDECIDED
        return Outcome.DECIDED

    @contextmanager
    def _kept_if_interrupted(self, file: Path | None) -> Iterator[None]:
        try:
            yield
        except (asyncio.CancelledError, KeyboardInterrupt):
            self._say(_where(file))
            raise

    def _say(self, text: str) -> None:
        say(self._console, text)


def _where(file: Path | None, *, again: str = "") -> str:
    kept = f"Your text is kept in {file}" if file else "Your text is kept here only"
    return f"{kept} ({again})" if again else kept
