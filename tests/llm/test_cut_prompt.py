"""The note on an artifact whose prompt the server seems to have cut without saying so."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.fakes.behaviours import Behaviour
from tests.fakes.model_server import ModelServer
from tests.llm.assignments import an_assignment
from vm_webapp.llm.base import Assignment
from vm_webapp.llm.cut_prompt import note_on_prompt
from vm_webapp.llm.kimi import KimiProvider

REPOSITORY = Path(__file__).parents[2]
LONG = "The bakery delivers warm bread by bicycle before eight in the morning. " * 400  # 28,400 characters
ENGLISH_PER_TOKEN, GERMAN_PER_TOKEN, CHINESE_PER_TOKEN = 6.0, 5.0, 2.0  # more than ``cl100k_base`` reaches
TABLE = "| Week | Channel |\n|" + "-" * 70 + "|" + "-" * 70 + "|\n| 1 | Mail |\n"


def sent(user: str) -> Assignment:
    return an_assignment(system="", user=user)


@pytest.mark.parametrize("kept", [1, 1_024, 2_048, 3_500])
def test_a_prompt_of_which_little_was_read_gets_a_note(kept: int) -> None:
    note = note_on_prompt(sent(LONG), kept)
    assert note is not None
    assert note.startswith(f"the server counted {kept} tokens for a prompt of {len(LONG)} characters")
    assert "OLLAMA_CONTEXT_LENGTH" in note
    assert len(note.splitlines()) == 1


@pytest.mark.parametrize(
    ("text", "characters_per_token"),
    [
        (LONG, ENGLISH_PER_TOKEN),
        ("Donaudampfschifffahrtsgesellschaftskapitäne verlangen Rechtsschutzversicherungen. " * 100, GERMAN_PER_TOKEN),
        ("面包店每天早上八点之前用自行车送热面包。" * 300, CHINESE_PER_TOKEN),
        ((REPOSITORY / "vm_webapp/llm/calls.py").read_text(), ENGLISH_PER_TOKEN),
        ((REPOSITORY / "README.md").read_text(), ENGLISH_PER_TOKEN),
    ],
    ids=["English", "German", "Chinese", "code", "Markdown"],
)
def test_a_prompt_that_was_read_gets_none(text: str, characters_per_token: float) -> None:
    assert len(text) >= 4_000
    assert note_on_prompt(sent(text), round(len(text) / characters_per_token)) is None


def test_runs_of_one_sign_that_are_one_token_each_are_no_cut() -> None:
    assert note_on_prompt(sent(TABLE * 100), 100 * 21) is None  # 21 tokens for each table, 182 characters
    indented = ("def f():\n" + " " * 80 + "pass\n") * 200
    assert note_on_prompt(sent(indented), 200 * 7) is None


@pytest.mark.parametrize("counted", [None, 0])
def test_a_server_that_does_not_count_gets_no_note(counted: int | None) -> None:
    assert note_on_prompt(sent(LONG), counted) is None


def test_a_short_prompt_gets_no_note() -> None:
    assert note_on_prompt(sent(LONG[:3_999]), 1) is None
    assert note_on_prompt(sent(LONG[:4_000]), 1) is not None


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize(("counted", "noted"), [(2_048, True), (6_000, False)])
async def test_a_completion_says_so(server: ModelServer, kimi: KimiProvider, counted: int, noted: bool) -> None:
    server.enqueue(Behaviour(text="# Done", usage={"prompt_tokens": counted, "completion_tokens": 3}))
    completion = await kimi.complete(sent(LONG))
    assert (completion.text, completion.prompt_tokens) == ("# Done", counted)
    assert (completion.note is not None) is noted
