"""Finish reasons and the ends of streams: what makes a text whole (``docs/models.md``)."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.behaviours import Behaviour, plain
from tests.fakes.model_server import ModelServer
from tests.llm.assignments import an_assignment
from tests.llm.dialects import DONE, WHOLE, failure, finish, stream, text
from vm_webapp.llm import errors, finish_reasons
from vm_webapp.llm import kimi as kimi_module
from vm_webapp.llm.errors import LLMError
from vm_webapp.llm.kimi import KimiProvider

pytestmark = pytest.mark.asyncio(loop_scope="module")

PAGE = (Path(__file__).parents[2] / "docs" / "models.md").read_text(encoding="utf-8")


class TestTheFinishReason:
    async def test_the_table_of_the_page_is_the_table_of_the_code(self) -> None:
        listed: dict[str, set[str]] = {}
        for meaning, reasons in re.findall(r"^\| (\w+) \| (.+?) \| [^|]+ \|$", PAGE, re.MULTILINE):
            if meaning in finish_reasons.REASONS:
                listed[meaning] = set(re.findall(r"`(\w+)`", reasons))
        assert listed == {meaning: set(reasons) for meaning, reasons in finish_reasons.REASONS.items()}

    @pytest.mark.parametrize(
        ("choices", "kind"),
        [
            ([{"finish_reason": "stop", "native_finish_reason": "STOP"}], None),
            ([{"finish_reason": "stop", "native_finish_reason": "a_word_of_its_own"}], None),
            ([{"finish_reason": "stop", "native_finish_reason": "MAX_TOKENS"}], "truncated"),
            ([{"finish_reason": "stop", "native_finish_reason": "network_error"}], errors.LLMInterrupted),
            (
                [{"finish_reason": "stop", "provider_specific_fields": {"native_finish_reason": "error"}}],
                errors.LLMInterrupted,
            ),
            (
                [{"finish_reason": "incomplete", "incomplete_details": {"reason": "content_filter"}}],
                errors.LLMContentFiltered,
            ),
            ([{"finish_reason": "error"}, {"finish_reason": "stop"}], errors.LLMInterrupted),
            ([{"finish_reason": "stop"}, {"finish_reason": "stop"}], None),
            ([{"finish_reason": None, "native_finish_reason": "stop"}], errors.LLMConnectionError),
        ],
    )
    async def test_of_several_reasons_the_worst_counts(
        self, server: ModelServer, kimi: KimiProvider, choices: list[dict[str, Any]], kind: type[LLMError] | str | None
    ) -> None:
        ends = [b"data: " + json.dumps({"choices": [{"delta": {}, **each}]}).encode() + b"\n\n" for each in choices]
        if isinstance(kind, type):
            assert type(await failure(server, kimi, stream(text("# Ha"), *ends, DONE))) is kind
            return
        server.enqueue(stream(text("# Ha"), *ends, DONE))
        assert (await kimi.complete(an_assignment())).truncated == (kind == "truncated")

    @pytest.mark.parametrize("reason", ["stop", "STOP", "eos_token", "stop_sequence", "end_turn", "FinishReason.STOP"])
    async def test_a_sign_of_completeness_makes_an_artifact(
        self, server: ModelServer, kimi: KimiProvider, reason: str
    ) -> None:
        server.enqueue(stream(text(WHOLE), finish(reason), DONE))
        done = await kimi.complete(an_assignment())
        assert (done.text, done.truncated) == (WHOLE, False)

    @pytest.mark.parametrize(
        "reason", ["length", "max_tokens", "MAX_TOKENS", "model_length", "incomplete", "a_reason_that_nobody_knows"]
    )
    async def test_a_limit_or_an_unknown_reason_makes_a_truncated_one(
        self, server: ModelServer, kimi: KimiProvider, reason: str
    ) -> None:
        server.enqueue(stream(text("# Plan\n\nWeek 1 we"), finish(reason), DONE))
        done = await kimi.complete(an_assignment())
        assert (done.text, done.truncated) == ("# Plan\n\nWeek 1 we", True)

    @pytest.mark.parametrize(
        ("reason", "kind", "permanent"),
        [
            ("abort", errors.LLMInterrupted, False),
            ("error", errors.LLMInterrupted, False),
            ("insufficient_system_resource", errors.LLMInterrupted, False),
            ("network_error", errors.LLMInterrupted, False),
            ("content_filter", errors.LLMContentFiltered, True),
            ("SAFETY", errors.LLMContentFiltered, True),
            ("sensitive", errors.LLMContentFiltered, True),
            ("tool_calls", errors.LLMProtocolError, False),
            (None, errors.LLMConnectionError, False),
            ("", errors.LLMConnectionError, False),
            ("none", errors.LLMConnectionError, False),
            ("repetition", errors.LLMInterrupted, False),
            ("Malformed Response", errors.LLMInterrupted, False),
            ("unload", errors.LLMInterrupted, False),
        ],
    )
    async def test_a_text_that_was_not_finished_stays_with_the_failed_call(
        self, server: ModelServer, kimi: KimiProvider, reason: str | None, kind: type[LLMError], permanent: bool
    ) -> None:
        usage = b'data: {"choices":[],"usage":{"prompt_tokens":30,"completion_tokens":7}}\n\n'
        error = await failure(server, kimi, stream(text("# Plan\n\nWeek 1 we"), finish(reason), usage, DONE))
        assert (type(error), error.permanent) == (kind, permanent)
        assert error.partial is not None
        assert error.partial.text == "# Plan\n\nWeek 1 we"
        assert (error.partial.prompt_tokens, error.partial.completion_tokens) == (30, 7)


class TestTheEndOfAStream:
    @pytest.fixture(autouse=True)
    def _short_wait(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(kimi_module, "AFTER_FINISH_SECONDS", 0.2)

    @pytest.mark.parametrize(
        "end",
        [
            Behaviour(reasoning="", insert=text(WHOLE) + finish("stop"), stall_after=0),
            Behaviour(reasoning="", insert=text(WHOLE) + finish("stop"), drop_after=0),
            Behaviour(reasoning="", insert=text(WHOLE) + finish("stop"), stop_after=0),
            stream(text(WHOLE), finish("stop")),
            stream(text(WHOLE), finish("stop"), b": ping\n\n" * 50, DONE),
            stream(text(WHOLE), finish("stop"), b'data: {"error":{"code":500,"message":"late"}}\n\n'),
        ],
        ids=["silence", "reset", "end", "no [DONE]", "pings", "a late error"],
    )
    async def test_a_finished_text_is_taken_whatever_follows(
        self, server: ModelServer, kimi: KimiProvider, end: Behaviour
    ) -> None:
        server.enqueue(end)
        done = await kimi.complete(an_assignment())
        assert (done.text, done.truncated) == (WHOLE, False)

    @pytest.mark.parametrize("content_type", ["application/json", "text/event-stream", "text/plain"])
    async def test_a_whole_completion_is_taken_in_place_of_a_stream(
        self, server: ModelServer, kimi: KimiProvider, content_type: str
    ) -> None:
        body = json.dumps({"choices": [{"message": {"content": WHOLE}, "finish_reason": "stop"}]}).encode()
        server.enqueue(plain(200, b"\n\n\n" + body, content_type))
        assert (await kimi.complete(an_assignment())).text == WHOLE

    async def test_a_stream_is_read_whatever_its_content_type_says(
        self, server: ModelServer, kimi: KimiProvider
    ) -> None:
        server.enqueue(plain(200, b"".join((text(WHOLE), finish("stop"), DONE)), "application/json"))
        assert (await kimi.complete(an_assignment())).text == WHOLE

    @pytest.mark.parametrize(
        "usage",
        [
            b'data: {"choices":[],"usage":{"prompt_tokens":30,"completion_tokens":7}}\n\n',
            b'data: {"choices":[{"delta":{},"usage":{"prompt_tokens":30,"completion_tokens":7}}],"usage":null}\n\n',
            b'data: {"choices":[{"delta":{}}],"usage":{"prompt_tokens":30,"completion_tokens":7}}\n\n'
            b'data: {"choices":[],"usage":null}\n\n',
        ],
    )
    async def test_token_counts_are_taken_from_wherever_they_are(
        self, server: ModelServer, kimi: KimiProvider, usage: bytes
    ) -> None:
        first = b'data: {"choices":[],"prompt_filter_results":[],"id":"","usage":null}\n\n'
        last = b'data: {"choices":[{"delta":{"content":"bake.\\n"},"finish_reason":"stop"}]}\n\n'
        server.enqueue(stream(first, text("# Plan\n\nWeek 1: we "), last, usage, DONE))
        done = await kimi.complete(an_assignment())
        assert (done.text, done.prompt_tokens, done.completion_tokens) == (WHOLE, 30, 7)
