"""What a reviewer sees: the draft as it is, at any width, with whatever brackets, and whether it breaks off."""

from __future__ import annotations

import re

import pytest

from tests.fakes.behaviours import truncated
from tests.support.forms import only_in_full
from tests.support.terminals import AS_STARTED, QUESTION, STYLES, Desk, ended

DRAFT = """\
# Copy [EN]

Dear [/INST] reader, see [the docs](https://example.com/docs) and docs [draft]. :memo: {task.description}

<!-- TODO: the price -->

| Plan | Price per month |
| --- | --- |
| Unpronounceablylongplanname | Unpronounceablylongprice |

[draft]: https://example.com/draft
"""


def seen(text: str) -> str:
    """Return what a terminal shows, without styles and line ends."""
    return STYLES.sub("", text).replace("\r", "")


@pytest.mark.parametrize("columns", [40, only_in_full(80), only_in_full(200)])
def test_a_review_is_readable_and_its_commands_can_be_pasted(desk: Desk, columns: int) -> None:
    run_id = desk.waiting_run(DRAFT)
    with desk.terminal(run_id, columns=columns) as running:
        running.expect(QUESTION)
        shown = seen(running.before or "")
        running.send("s\r")
        code, said = ended(running)
    assert code == 0
    # The hint is one line, which the terminal wraps if it must.
    assert f"Come back with: {AS_STARTED} run --resume {run_id} --base-url {desk.address}" in said.splitlines()
    draft = shown[shown.index("Copy [EN], version 1") :]
    assert all(len(line) <= columns for line in draft.splitlines())
    # Only spaces and line ends may differ from what the model wrote: words longer than the terminal are cut into lines.
    letters = "".join(draft.split())
    assert "".join(DRAFT.split()) in letters
    assert letters.endswith("approve·edit·requestchanges·stopand")
    assert "┏" not in draft
    if columns >= 80:
        for line in DRAFT.splitlines():
            assert len(line) > columns or line in draft
    assert f"Run {run_id} · two_reviews" in " ".join(shown.splitlines()[0].split())


@pytest.mark.parametrize("columns", [only_in_full(40), 200])
def test_the_stages_are_shown_with_their_brackets(desk: Desk, columns: int) -> None:
    run_id = desk.waiting_run("# Draft", "# Legal")
    with desk.terminal(run_id, columns=columns) as running:
        for title in ("Copy [EN], version 1", "Legal [/INST], version 1"):
            running.expect_exact(title)
            running.expect(QUESTION)
            running.send("a\r")
        code, said = ended(running)
    assert code == 0
    if columns > 40:
        assert "✓ Copy [EN]" in said
        assert "✓ Legal [/INST]" in said
    assert "completed: 2 artifacts" in said


def test_control_characters_are_shown_and_hide_nothing(desk: Desk) -> None:
    run_id = desk.waiting_run("We promise \x1b[8mnothing\x1b[0m.\rAll good.\x07\n")
    with desk.terminal(run_id) as running:
        running.expect(QUESTION)
        assert "We promise ␛[8mnothing␛[0m.␍All good.␇" in seen(running.before or "")


@pytest.mark.parametrize("columns", [40, only_in_full(120)])
def test_a_truncated_draft_says_so_where_it_is_judged(desk: Desk, columns: int) -> None:
    run_id = desk.waiting_run(truncated("# Half a draft"), "# Legal")
    with desk.terminal(run_id, columns=columns) as running:
        running.expect(QUESTION)
        said = " ".join(seen(running.before or "").split())
        warning = "This draft is truncated: the model reached its budget, so the text breaks off."
        # After the draft, next to the question.
        assert re.search(re.escape(warning) + r" approve · edit · request changes · stop and$", said), said
        running.send("a\r")
        running.expect("Legal .*version 1")
        running.expect(QUESTION)
        assert "truncated" not in (running.before or "")
