"""Where the text of a completion stands, and what around it is none (``docs/models.md``)."""

from __future__ import annotations

import json

import pytest

from tests.fakes.behaviours import chunk
from tests.fakes.model_server import ModelServer
from tests.llm.assignments import an_assignment
from tests.llm.dialects import DONE, WHOLE, failure, finish, stream, text
from vm_webapp.llm import errors
from vm_webapp.llm.kimi import KimiProvider

pytestmark = pytest.mark.asyncio(loop_scope="module")


class TestTheContent:
    @pytest.mark.parametrize(
        "pieces",
        [
            ["<think>Let me see.</think>\n\n", WHOLE],
            ["<th", "ink>Let me", " see.</thi", "nk>", "\n", WHOLE],
            ["Let me see.\nYes.\n</think>\n\n", WHOLE],
            ["<Thinking>Hm.</Thinking>", WHOLE],
            ["<think>\n\n</think>\n\n", WHOLE],
            ["<think>One.</think><think>Two.</think>", WHOLE],
            ["[THI", "NK]Hm.[/TH", "INK]", WHOLE],
            ["\u25c1think\u25b7Hm.\u25c1/think\u25b7", WHOLE],
            ["<seed:think>Hm.</seed:think>", WHOLE],
            ["<|START_THINKING|>Hm.<|END_THINKING|>", WHOLE],
            ["<|channel>thought\nHm.<channel|>", WHOLE],
            [
                "<|chan",
                "nel|>analysis<|mess",
                "age|>Hm.<|end|><|start|>assistant<|channel|>",
                "final<|message|>",
                WHOLE,
            ],
            ["<|channel|>commentary to=x<|message|>Hm.<|end|><|start|>assistant<|channel|>final<|message|>", WHOLE],
            ["<|channel|>final<|message|>", WHOLE],
        ],
    )
    async def test_reasoning_in_the_content_is_no_part_of_the_text(
        self, server: ModelServer, kimi: KimiProvider, pieces: list[str]
    ) -> None:
        server.enqueue(stream(*map(text, pieces), finish("stop"), DONE))
        shown: list[str] = []
        assert (await kimi.complete(an_assignment(), on_text=shown.append)).text == WHOLE
        if pieces[0].startswith("<"):
            assert "".join(shown) == WHOLE

    @pytest.mark.parametrize(
        "token", ["<|im_end|>", "</s>", "<|eot_id|>", "<|return|>", "<end_of_turn>", "<|im_end|>\n<|endoftext|>\n"]
    )
    async def test_a_token_that_ends_the_turn_is_no_part_of_the_text(
        self, server: ModelServer, kimi: KimiProvider, token: str
    ) -> None:
        server.enqueue(stream(text(WHOLE), text(token), finish("stop"), DONE))
        assert (await kimi.complete(an_assignment())).text == WHOLE

    async def test_reasoning_whose_markers_the_server_dropped_is_no_part_of_the_text(
        self, server: ModelServer, kimi: KimiProvider
    ) -> None:
        server.enqueue(stream(text(f"analysisWe need a plan.assistantfinal{WHOLE}"), finish("stop"), DONE))
        assert (await kimi.complete(an_assignment())).text == WHOLE

    async def test_a_character_that_is_cut_across_deltas_is_whole(
        self, server: ModelServer, kimi: KimiProvider
    ) -> None:
        server.enqueue(stream(text("# \ud83e"), text("\udd50"), finish("stop"), DONE))
        assert (await kimi.complete(an_assignment())).text == "# \U0001f950"

    @pytest.mark.parametrize(
        "document",
        [
            "The token </s> ends a turn, and so does `<|im_end|>`.\n",
            "analysisWe begin here and there is no second part.\n",
            "[THINKING] about it\n",
            "<|channel|> is a token.\n",
            "# Prompts\n\nModels write `<think>` and `</think>` around it.\n",
            "# Prompts\n\n```\n<think>\nx\n</think>\n```\n",
            "<b>Bold</b> beginnings stay.\n",
            "<thin line>",
            "<",
        ],
    )
    async def test_a_text_about_reasoning_stays_as_it_is(
        self, server: ModelServer, kimi: KimiProvider, document: str
    ) -> None:
        server.enqueue(stream(*(text(letter) for letter in document), finish("stop"), DONE))
        assert (await kimi.complete(an_assignment())).text == document

    async def test_content_may_be_a_list_of_typed_blocks(self, server: ModelServer, kimi: KimiProvider) -> None:
        blocks: list[object] = [
            {"type": "thinking", "thinking": [{"type": "text", "text": "Let me see."}]},
            {"type": "text", "text": "# Plan\n\n"},
            {"type": "reference", "reference_ids": [1]},
        ]
        server.enqueue(
            stream(
                text(blocks),
                text([{"type": "text", "text": "Week 1: "}]),
                text({"type": "text", "text": "we "}),
                text("bake.\n"),
                finish("stop"),
                DONE,
            )
        )
        assert (await kimi.complete(an_assignment())).text == WHOLE

    async def test_a_text_that_comes_again_in_a_message_is_taken_once(
        self, server: ModelServer, kimi: KimiProvider
    ) -> None:
        again = {"choices": [{"delta": {}, "message": {"content": WHOLE}, "finish_reason": "stop"}]}
        server.enqueue(stream(text(WHOLE), b"data: " + json.dumps(again).encode() + b"\n\n", DONE))
        assert (await kimi.complete(an_assignment())).text == WHOLE

    async def test_messages_may_come_in_place_of_deltas(self, server: ModelServer, kimi: KimiProvider) -> None:
        pieces = [{"choices": [{"message": {"content": piece}}]} for piece in ("# Plan\n\n", "Week 1: we bake.\n")]
        server.enqueue(stream(*(b"data: " + json.dumps(each).encode() + b"\n\n" for each in pieces), finish("stop")))
        assert (await kimi.complete(an_assignment())).text == WHOLE

    @pytest.mark.parametrize("name", ["reasoning_content", "reasoning", "thinking", "reasoning_details"])
    @pytest.mark.parametrize("value", ["Let me see.", {"text": "Let me see."}, [{"type": "reasoning.text"}]])
    async def test_reasoning_in_a_field_of_its_own_is_no_part_of_the_text(
        self, server: ModelServer, kimi: KimiProvider, name: str, value: object
    ) -> None:
        server.enqueue(stream(chunk(delta={name: value, "content": None}), text(WHOLE), finish("stop"), DONE))
        assert (await kimi.complete(an_assignment())).text == WHOLE

    @pytest.mark.parametrize(
        "sent",
        [
            "<think>Let me",
            "<think>Let me see.</think>",
            " \n",
            "<|channel|>analysis<|message|>Hm.<|end|>",
            "<|im_end|>",
        ],
    )
    async def test_reasoning_alone_is_no_text(self, server: ModelServer, kimi: KimiProvider, sent: str) -> None:
        error = await failure(server, kimi, stream(text(sent), finish("length"), DONE))
        assert (type(error), error.permanent) == (errors.LLMEmptyCompletion, False)

    async def test_a_second_choice_is_another_text(self, server: ModelServer, kimi: KimiProvider) -> None:
        other = chunk(delta={"content": "Other."}).replace(b'"index": 0', b'"index": 1')
        server.enqueue(stream(text(WHOLE), other, finish("stop"), DONE))
        assert (await kimi.complete(an_assignment())).text == WHOLE

    async def test_a_refusal_is_not_an_empty_text(self, server: ModelServer, kimi: KimiProvider) -> None:
        error = await failure(server, kimi, stream(chunk(delta={"refusal": "I cannot help."}), finish("stop"), DONE))
        assert type(error) is errors.LLMContentFiltered
        assert str(error) == "the model refused: I cannot help."

    @pytest.mark.parametrize(
        ("sent", "stored"),
        [
            (f"```markdown\n{WHOLE}```", WHOLE),
            (f"```md\n{WHOLE}```\n", WHOLE),
            (f"```\n{WHOLE}```", WHOLE),
            (f"````markdown\n{WHOLE}\n```python\nx = 1\n```\n````", f"{WHOLE}\n```python\nx = 1\n```\n"),
            (
                f"```markdown\n{WHOLE}\n```python\nx = 1\n```\n\nMore.\n```",
                f"{WHOLE}\n```python\nx = 1\n```\n\nMore.\n",
            ),
            (f"~~~markdown\n{WHOLE}~~~", WHOLE),
        ],
    )
    async def test_a_fence_around_the_whole_document_is_removed(
        self, server: ModelServer, kimi: KimiProvider, sent: str, stored: str
    ) -> None:
        server.enqueue(stream(text(sent), finish("stop"), DONE))
        assert (await kimi.complete(an_assignment())).text == stored

    async def test_a_fence_that_the_budget_kept_from_being_closed_is_removed(
        self, server: ModelServer, kimi: KimiProvider
    ) -> None:
        server.enqueue(stream(text("```markdown\n# Plan\n\nWeek 1 we"), finish("length"), DONE))
        assert (await kimi.complete(an_assignment())).text == "# Plan\n\nWeek 1 we"
        server.enqueue(stream(text("```python\nx = 1\ny ="), finish("length"), DONE))
        assert (await kimi.complete(an_assignment())).text == "```python\nx = 1\ny ="

    @pytest.mark.parametrize(
        "document",
        [
            "```python\nprint(1)\n```",
            "```\nprint(1)\n```",
            "# T\n\n```markdown\n# Inner\n```\n",
            "```markdown\n# One\n```\n\nThen:\n\n```markdown\n# Two\n```",
            "```markdown\n# One\n```\n\nAnd that is it.",
            "```json\n{}\n```",
        ],
    )
    async def test_a_document_with_fences_of_its_own_stays(
        self, server: ModelServer, kimi: KimiProvider, document: str
    ) -> None:
        server.enqueue(stream(text(document), finish("stop"), DONE))
        assert (await kimi.complete(an_assignment())).text == document
