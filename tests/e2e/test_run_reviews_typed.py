"""What is typed and pasted at a review: it decides about the draft that was shown, and about no other."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.support.forms import only_in_full
from tests.support.gates import Gate
from tests.support.terminals import AS_STARTED, QUESTION, REMARK, Desk, ended
from tests.support.waiting import eventually

PASTE = ("Warmer, please.\r", "a\r", "And shorter.")


def bracketed(text: str) -> str:
    """Return a paste as a terminal with bracketed paste sends it."""
    return f"\x1b[200~{text}\x1b[201~"


def test_an_answer_that_is_typed_twice_approves_one_draft(desk: Desk) -> None:
    run_id = desk.waiting_run("# Draft", "# Legal")
    with desk.terminal(run_id) as running:
        running.expect(QUESTION)
        running.send("a\ra\r")
        running.expect("Typed ahead, and ignored: a⏎")
        running.expect("Legal .*version 1")
        running.expect(QUESTION)
        assert desk.approved(run_id) == ["copy"]
        running.send("s\r")
        assert ended(running)[0] == 0
    assert desk.approved(run_id) == ["copy"]


def test_keys_that_are_typed_before_the_draft_is_shown_decide_nothing(desk: Desk) -> None:
    run_id = desk.waiting_run("# Draft")
    with desk.terminal(run_id) as running:
        running.send("a\ra\rapp")
        running.expect("Draft")
        running.expect("Typed ahead, and ignored: a⏎a⏎app")
        running.expect(QUESTION)
        running.send("s\r")
        assert ended(running)[0] == 0
    assert desk.approved(run_id) == []


@pytest.mark.parametrize(
    ("paste", "at_once"),
    [
        pytest.param("".join(PASTE), True, id="plain, at once"),
        pytest.param(bracketed("".join(PASTE)), False, id="bracketed"),
        only_in_full("".join(PASTE), False, id="plain"),
        only_in_full(bracketed("".join(PASTE)), True, id="bracketed, at once"),
    ],
)
def test_a_pasted_remark_is_the_remark_as_a_whole(desk: Desk, paste: str, at_once: bool) -> None:
    run_id = desk.waiting_run("# Draft", "# Draft 2", "# Legal")
    with desk.terminal(run_id) as running:
        running.expect(QUESTION)
        running.send("c\r" + (paste if at_once else ""))
        running.expect(REMARK)
        if not at_once:
            running.send(paste)
        running.expect("shorter")
        running.send("\r")
        running.expect("Copy .*version 2")
        running.expect(QUESTION)
        running.send("s\r")
        assert ended(running)[0] == 0
    assert desk.remarks(run_id) == ["Warmer, please.\na\nAnd shorter."]
    assert desk.approved(run_id) == []


def test_a_paste_that_ends_with_a_line_end_approves_nothing(desk: Desk) -> None:
    run_id = desk.waiting_run("# Draft", "# Draft 2")
    with desk.terminal(run_id) as running:
        running.expect(QUESTION)
        running.send("c\rone\r\r\ra\ra\r")
        running.expect("Copy .*version 2")
        running.expect(QUESTION)
        running.send("s\r")
        assert ended(running)[0] == 0
    assert desk.remarks(run_id) == ["one\n\n\na\na"]
    assert desk.approved(run_id) == []


def test_a_paste_at_the_question_decides_nothing(desk: Desk) -> None:
    run_id = desk.waiting_run("# Draft")
    with desk.terminal(run_id) as running:
        for paste in ("a", "a\r", "approve\ra\r"):
            running.expect(QUESTION)
            running.send(bracketed(paste) + "\r")
            running.expect("A pasted text decides nothing here")
            running.expect(QUESTION)
        running.expect(QUESTION)
        running.send(bracketed("a\r") + "s\r")
        assert ended(running)[0] == 0
    assert desk.approved(run_id) == []


def test_only_a_letter_or_its_word_is_an_answer(desk: Desk) -> None:
    run_id = desk.waiting_run("# Draft")
    with desk.terminal(run_id) as running:
        for answer in ("all wrong", "ab", "y", "", "A draft I like", "áa"):
            running.expect(QUESTION)
            # The lines after a wrong answer belong to the same paste.
            running.send(f"{answer}\ra\r")
            running.expect("Typed ahead, and ignored: a⏎")
        running.expect(QUESTION)
        running.send("S\r")
        assert ended(running)[0] == 0
    assert desk.approved(run_id) == []


def test_a_remark_is_edited_on_its_line_and_may_be_longer_than_a_line_of_the_kernel(desk: Desk) -> None:
    run_id = desk.waiting_run("# Draft", "# Draft 2")
    long = "wärmer " * 1_000
    with desk.terminal(run_id, columns=40) as running:
        running.expect(QUESTION)
        running.send("c\r")
        running.expect(REMARK)
        running.send(f"nothing\x15x\x7f{long}word \x17\x1b[D\x1b\rend")
        running.send("\r")
        running.expect("Copy .*version 2")
    assert desk.remarks(run_id) == [f"{long}\nend"]


def test_an_empty_remark_and_the_end_of_input_ask_again_or_stop(desk: Desk) -> None:
    run_id = desk.waiting_run("# Draft")
    with desk.terminal(run_id) as running:
        for sent in ("\r", "\x04"):
            running.expect(QUESTION)
            running.send("c\r")
            running.expect(REMARK)
            running.send(sent)
        running.expect(QUESTION)
        running.send("\x04")
        code, said = ended(running)
    assert code == 0
    assert f"Come back with: {AS_STARTED} run --resume {run_id}" in said
    assert desk.remarks(run_id) == []


def test_a_remark_that_cannot_be_sent_is_kept_and_sent_by_enter(desk: Desk) -> None:
    run_id = desk.waiting_run("# Draft", "# Draft 2")
    port = desk.client.base_url.port
    assert port is not None
    with Gate(port) as gate, desk.terminal(run_id, base_url=gate.url) as running:
        running.expect(QUESTION)
        running.send("c\r")
        running.expect(REMARK)
        gate.shut()
        running.send("warmer, please\r")
        running.expect("Nothing was decided: the API at .* does not respond")
        running.expect(r"is kept in (\S+)")
        assert isinstance(running.match, re.Match)
        file = Path(running.match[1])
        assert file.read_text() == "warmer, please"
        running.expect(QUESTION)
        gate.open()
        running.send("c\r")
        running.expect("Enter alone sends the remark that is kept")
        running.send("\r")
        running.expect("Copy .*version 2")
    assert desk.remarks(run_id) == ["warmer, please"]
    assert not file.exists()


def test_a_remark_that_is_too_long_is_kept(desk: Desk) -> None:
    run_id = desk.waiting_run("# Draft")
    with desk.terminal(run_id) as running:
        running.expect(QUESTION)
        running.send("c\r")
        running.expect(REMARK)
        running.send(bracketed("x" * 20_001) + "\r")
        running.expect("Nothing was decided: .*20000")
        running.expect(r"is kept in (\S+)")
        assert isinstance(running.match, re.Match)
        assert Path(running.match[1]).read_text() == "x" * 20_001
        running.expect(QUESTION)
    assert desk.remarks(run_id) == []


def test_an_approval_that_the_api_does_not_receive_asks_again(desk: Desk) -> None:
    run_id = desk.waiting_run("# Draft", "# Legal")
    port = desk.client.base_url.port
    assert port is not None
    with Gate(port) as gate, desk.terminal(run_id, base_url=gate.url) as running:
        running.expect(QUESTION)
        gate.shut()
        running.send("a\r")
        running.expect("Nothing was decided: the API at .* does not respond")
        running.expect(QUESTION)
        gate.open()
        running.send("a\r")
        running.expect("Legal .*version 1")
    eventually(lambda: desk.approved(run_id) == ["copy"], "the approval")
