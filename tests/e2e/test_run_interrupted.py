"""Ctrl-C at a review ends the command at once, says how to come back, and leaves the terminal as it was."""

from __future__ import annotations

import re
import signal
import time
from pathlib import Path

import pexpect
import pytest

from tests.support.terminals import AS_STARTED, QUESTION, REMARK, STYLES, Desk, ended, is_sane


def interrupted(desk: Desk, running: pexpect.spawn[str], run_id: str) -> str:
    """Send Ctrl-C and return what the command said, having checked how it ended."""
    began = time.monotonic()
    running.sendintr()
    running.expect("Come back with: (.*)\r\n")
    assert isinstance(running.match, re.Match)
    assert running.match[1] == f"{AS_STARTED} run --resume {run_id} --base-url {desk.address}"
    said = STYLES.sub("", running.before or "")
    sane = is_sane(running)
    code, _ = ended(running)
    assert (code, sane) == (130, True)
    assert time.monotonic() - began < 5
    assert desk.status(run_id) == "waiting_approval"
    return said


def test_at_the_question(desk: Desk) -> None:
    run_id = desk.waiting_run("# Draft")
    with desk.terminal(run_id) as running:
        running.expect(QUESTION)
        assert not is_sane(running)
        interrupted(desk, running, run_id)


def test_at_the_question_after_half_an_answer(desk: Desk) -> None:
    run_id = desk.waiting_run("# Draft")
    with desk.terminal(run_id) as running:
        running.expect(QUESTION)
        running.send("app")
        running.expect("app")
        interrupted(desk, running, run_id)


def test_at_the_remark_whose_beginning_is_kept(desk: Desk) -> None:
    run_id = desk.waiting_run("# Draft")
    with desk.terminal(run_id) as running:
        running.expect(QUESTION)
        running.send("c\r")
        running.expect(REMARK)
        running.send("warmer")
        running.expect("warmer")
        said = interrupted(desk, running, run_id)
    kept = re.search(r"Your text is kept in (\S+)", said)
    assert kept is not None
    assert Path(kept[1]).read_text() == "warmer"


def test_in_the_middle_of_a_draft(desk: Desk) -> None:
    run_id = desk.waiting_run("# Draft\n\n" + "A line of a long draft.\n\n" * 4_000)
    with desk.terminal(run_id) as running:
        running.expect("A line of")
        # Nobody reads on: the terminal is full soon, and the command waits for it.
        said = interrupted(desk, running, run_id)
    assert said.count("A line of") < 4_000
    assert QUESTION not in said


def test_while_the_run_is_followed(desk: Desk) -> None:
    run_id = desk.waiting_run("# Draft")
    desk.client.post("/queue/pause", json={"reason": "a test"})
    try:
        with desk.terminal(run_id) as running:
            running.expect(QUESTION)
            running.send("a\r")
            running.expect("Legal.*paused")
            running.sendintr()
            running.expect(f"Come back with: {AS_STARTED} run --resume {run_id}")
            assert ended(running)[0] == 130
    finally:
        desk.client.post("/queue/resume")


@pytest.mark.parametrize("number", [signal.SIGTERM])
def test_a_signal_leaves_the_terminal_as_it_was(desk: Desk, number: signal.Signals) -> None:
    run_id = desk.waiting_run("# Draft")
    with desk.terminal(run_id) as running:
        running.expect(QUESTION)
        running.kill(number)
        running.expect("Come back with")
        assert is_sane(running)
        assert ended(running)[0] == 128 + number


def test_a_command_that_was_suspended_asks_again_when_it_continues(desk: Desk) -> None:
    run_id = desk.waiting_run("# Draft", "# Legal")
    with desk.terminal(run_id) as running:
        running.expect(QUESTION)
        running.kill(signal.SIGSTOP)
        running.kill(signal.SIGCONT)
        running.expect(QUESTION)
        running.send("a\r")
        running.expect("Legal .*version 1")
