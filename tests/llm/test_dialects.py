"""What OpenAI-compatible servers send that OpenAI does not: each row of the tables in ``docs/models.md``."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.behaviours import Behaviour, chunk, plain
from tests.fakes.model_server import ModelServer
from tests.llm.assignments import an_assignment
from tests.llm.providers import a_provider
from vm_webapp.errors import ConfigurationError
from vm_webapp.llm import errors, finish_reasons
from vm_webapp.llm import kimi as kimi_module
from vm_webapp.llm.errors import LLMError
from vm_webapp.llm.kimi import KimiProvider

pytestmark = pytest.mark.asyncio(loop_scope="module")

DONE = b"data: [DONE]\n\n"
PAGE = (Path(__file__).parents[2] / "docs" / "models.md").read_text(encoding="utf-8")
TOO_LONG = (
    "This model's maximum context length is 4097 tokens. However, your messages resulted in 4294 tokens.",
    "Input tokens exceed the configured limit of 272000 tokens. Your messages resulted in 509178 tokens.",
    "Your input exceeds the context window of this model",
    "This model's maximum context length is 1024 tokens. However, your request has 1028 input tokens.",
    "request (13392 tokens) exceeds the available context size (8192 tokens), try increasing it",
    "the request exceeds the available context size. try increasing the context size or enable context shift",
    "the prompt is longer than the context length currently available to the model; shorten the prompt",
    "The number of tokens to keep from the initial prompt is greater than the context length (n_keep: 2>= n_ctx: 1).",
    "Trying to keep the first 111490 tokens when context the overflows.",
    "The input (265330 tokens) is longer than the model's context length (262144 tokens).",
    "Input validation error: `inputs` must have less than 4096 tokens. Given: 5000",
    "litellm.ContextWindowExceededError: litellm.BadRequestError: OpenAIException",
    "Prompt contains 300000 tokens, too large for model with 131072 maximum context length",
    "Invalid request: Your request exceeded model token limit: 262144 (requested: 300000)",
    "Input token length too long",
    "total message size 3000000 exceeds limit 2097152",
    "Prompt too long",
    "Please reduce the length of the messages or completion",
    "This model's maximum prompt length is 131072 but the request contains 200000 tokens",
    "The input token count (2000000) exceeds the maximum number of tokens allowed (1048576)",
    "Range of input length should be [1, 129024]",
    "invalid params, context window exceeds limit",
    "prompt is too long: 210000 tokens > 200000 maximum",
)
WHOLE = "# Plan\n\nWeek 1: we bake.\n"


def text(content: object) -> bytes:
    """A chunk with a piece of the text."""
    return b"data: " + json.dumps({"choices": [{"delta": {"content": content}}]}).encode() + b"\n\n"


def finish(reason: str | None) -> bytes:
    """The chunk with the finish reason."""
    return b"data: " + json.dumps({"choices": [{"delta": {}, "finish_reason": reason}]}).encode() + b"\n\n"


def stream(*parts: bytes) -> Behaviour:
    return plain(200, b"".join(parts), "text/event-stream")


def said(message: str, **more: object) -> dict[str, Any]:
    """The body of an error."""
    return {"error": {"message": message, "type": "invalid_request_error", **more}}


async def failure(server: ModelServer, kimi: KimiProvider, *behaviours: Behaviour) -> LLMError:
    server.enqueue(*behaviours)
    with pytest.raises(LLMError) as raised:
        await kimi.complete(an_assignment())
    return raised.value


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

    @pytest.mark.parametrize("reason", ["stop", "STOP", "eos_token", "stop_sequence", "end_turn"])
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


class TestAnErrorWithStatus200:
    @pytest.mark.parametrize(
        "line",
        [
            b'error: {"code":500,"message":"context size exceeded"}\n\n',
            b'event: error\ndata: {"error":{"message":"Input does not fit in context length. The input has 31430'
            b' tokens, but the context length only supports 30000 tokens."},"message":"Input does not fit"}\n\n',
            b'data: {"error":{"code":400,"message":"the request exceeds the available context size",'
            b'"type":"exceed_context_size_error"}}\n\n',
        ],
    )
    async def test_a_prompt_that_is_too_long_is_permanent_and_names_the_setting(
        self, server: ModelServer, kimi: KimiProvider, line: bytes
    ) -> None:
        error = await failure(server, kimi, stream(text("# Ha"), line, DONE))
        assert type(error) is errors.LLMContextExceeded
        assert "KIMI_MAX_TOKENS" in str(error)
        assert error.partial is not None
        assert error.partial.text == "# Ha"

    @pytest.mark.parametrize(
        "line",
        [
            b'data: {"object":"error","message":"engine died","code":500}\n\n',
            b'event: error\ndata: {"message":"engine died"}\n\n',
            b'data: {"error":"engine died","error_type":"generation"}\n\n',
            b'data: {"error":{"object":"error","message":"engine died","type":"INTERNAL_SERVER_ERROR","code":500}}\n\n',
            b'data: {"error":{"message":"engine died","type":"None","param":"None","code":"500"}}\n\n',
            b'data: {"x_groq":{"error":{"message":"engine died","type":"internal_server_error"}}}\n\n',
            b'data: {"x_groq":{"error":"engine died"}}\n\n',
            b'data: {"choices":[{"delta":{"content":""},"error":{"code":502,"message":"engine died"}}]}\n\n',
            b'data: {"error":{"code":502,"message":"Provider returned error","metadata":{"raw":"engine died"}}}\n\n',
            b'data: {"error":{"message":"engine died","code":502,"metadata":{"provider_name":"X"}},'
            b'"choices":[{"index":0,"delta":{"content":""},"finish_reason":"error"}]}\n\n',
        ],
    )
    async def test_a_failing_engine_is_tried_again(self, server: ModelServer, kimi: KimiProvider, line: bytes) -> None:
        error = await failure(server, kimi, stream(text("# Ha"), line, DONE))
        assert (type(error), error.overload) == (errors.LLMOverloaded, True)
        assert "engine died" in str(error)

    @pytest.mark.parametrize(
        "line",
        [
            b'data: {"error":{"message":"Request failed during generation: x","http_status_code":422}}\n\n',
            b"data: Traceback: KeyError\n\n",
            b'data: {"id":"2026051004data: {"id":"2026051004","choices":[]}\n\n',
        ],
    )
    async def test_an_error_that_says_nothing_is_tried_again(
        self, server: ModelServer, kimi: KimiProvider, line: bytes
    ) -> None:
        error = await failure(server, kimi, stream(text("# Ha"), line, DONE))
        assert (type(error), error.permanent) == (errors.LLMProtocolError, False)

    @pytest.mark.parametrize(
        ("code", "kind"),
        [
            (401, errors.LLMUnauthorized),
            (402, errors.LLMPaymentRequired),
            (403, errors.LLMForbidden),
            (429, errors.LLMRateLimited),
            (502, errors.LLMOverloaded),
            ("429", errors.LLMRateLimited),
            (400, errors.LLMBadRequest),
        ],
    )
    @pytest.mark.parametrize("streamed", [True, False])
    async def test_a_numeric_code_means_what_the_status_means(
        self, server: ModelServer, kimi: KimiProvider, code: int | str, kind: type[LLMError], streamed: bool
    ) -> None:
        body = json.dumps({"error": {"code": code, "message": "it went wrong"}}).encode()
        behaviour = stream(b"data: " + body + b"\n\n", DONE) if streamed else plain(200, body, "application/json")
        error = await failure(server, kimi, behaviour)
        assert type(error) is kind

    @pytest.mark.parametrize(
        ("body", "kind"),
        [
            ({"code": "1113", "msg": "您的账户已欠费，请充值后重试"}, errors.LLMQuotaExceeded),
            ({"error": {"code": "1302", "message": "rate limit reached for requests"}}, errors.LLMRateLimited),
            ({"base_resp": {"status_code": 1008, "status_msg": "insufficient balance"}}, errors.LLMQuotaExceeded),
            ({"base_resp": {"status_code": 1002, "status_msg": "slower"}}, errors.LLMRateLimited),
            ({"base_resp": {"status_code": 1004, "status_msg": "login fail"}}, errors.LLMUnauthorized),
            ({"base_resp": {"status_code": 1026, "status_msg": "input"}, "choices": None}, errors.LLMContentFiltered),
            ({"code": 11200, "message": "AppIdNoAuthError", "sid": "x"}, errors.LLMForbidden),
            ({"error": {"code": "1301", "message": "?"}}, errors.LLMContentFiltered),
            ({"error": {"code": "1211", "message": "?"}}, errors.LLMModelNotFound),
            ([{"error": {"code": 429, "message": "slower", "status": "RESOURCE_EXHAUSTED"}}], errors.LLMRateLimited),
            ({"error": "Unexpected endpoint or method. (POST /chat/completions)"}, errors.LLMNotFound),
            ({"detail": "Model not found"}, errors.LLMModelNotFound),
            ({"error": {"type": "authentication_error", "message": "bad key"}}, errors.LLMUnauthorized),
        ],
    )
    async def test_an_error_object_of_another_shape_is_no_completion(
        self, server: ModelServer, kimi: KimiProvider, body: object, kind: type[LLMError]
    ) -> None:
        error = await failure(server, kimi, plain(200, json.dumps(body).encode(), "application/json"))
        assert type(error) is kind


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
        "document",
        [
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

    @pytest.mark.parametrize("sent", ["<think>Let me", "<think>Let me see.</think>", " \n"])
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


class TestWhatOnlyAPersonCanRepair:
    @pytest.mark.parametrize(
        ("status", "body", "kind"),
        [
            (404, {"error": {"message": "model 'gone' not found", "type": "api_error"}}, errors.LLMModelNotFound),
            (
                404,
                {"error": {"code": "model_not_found", "message": "The model `x` does not exist"}},
                errors.LLMModelNotFound,
            ),
            (
                404,
                {"object": "error", "message": "The model `x` does not exist.", "code": 404},
                errors.LLMModelNotFound,
            ),
            (400, {"error": {"message": "Model Not Exist", "type": "invalid_request_error"}}, errors.LLMModelNotFound),
            (400, {"error": {"message": "x/y is not a valid model ID", "code": 400}}, errors.LLMModelNotFound),
            (410, {"error": {"message": "The model x has been deprecated"}}, errors.LLMModelNotFound),
            (400, {"error": {"message": "Your credit balance is too low"}}, errors.LLMQuotaExceeded),
            (402, {"error": {"message": "Insufficient Balance"}}, errors.LLMPaymentRequired),
            (429, {"error": {"code": "1113", "message": "余额不足或无可用资源包,请充值。"}}, errors.LLMQuotaExceeded),
            (429, {"error": {"code": 1113, "message": "?"}}, errors.LLMQuotaExceeded),
            (400, {"error": {"code": "Arrearage", "message": "Access denied"}}, errors.LLMQuotaExceeded),
            (404, {"detail": "Not Found"}, errors.LLMNotFound),
            (405, {"detail": "Method Not Allowed"}, errors.LLMNotFound),
            (404, "404 page not found", errors.LLMNotFound),
            (
                404,
                said("The model `x` does not exist.", type="NotFoundError", param="model", code=404),
                errors.LLMModelNotFound,
            ),
            (404, said('model "x" not found, try pulling it first', type="not_found_error"), errors.LLMModelNotFound),
            (400, said("model 'x' not found", code=400), errors.LLMModelNotFound),
            (400, said("model is not loaded", code=400), errors.LLMModelNotFound),
            (400, said("No models loaded. Please load a model in the developer page."), errors.LLMModelNotFound),
            (400, said("/chat/completions: Invalid model name passed in model=x", code="400"), errors.LLMModelNotFound),
            (
                400,
                {"object": "error", "message": "Invalid model: x", "type": "invalid_model", "code": "1500"},
                errors.LLMModelNotFound,
            ),
            (404, said("Not found the model x or Permission denied"), errors.LLMModelNotFound),
            (400, said("模型不存在，请检查模型代码。", code="1211"), errors.LLMModelNotFound),
            (404, said("No endpoints found for x.", code=404), errors.LLMModelNotFound),
            (400, {"code": 20012, "message": "Check it carefully.", "data": None}, errors.LLMModelNotFound),
            (404, said("The API deployment for this resource does not exist."), errors.LLMModelNotFound),
            (404, said("?", code="DeploymentNotFound"), errors.LLMModelNotFound),
            (400, said("It has gone", code="model_decommissioned"), errors.LLMModelNotFound),
            (
                429,
                said("You exceeded your current quota, please check your plan.", code="insufficient_quota"),
                errors.LLMQuotaExceeded,
            ),
            (429, said("Your account is suspended", type="exceeded_current_quota_error"), errors.LLMQuotaExceeded),
            (
                402,
                said("This request requires more credits, or fewer max_tokens.", code=402),
                errors.LLMPaymentRequired,
            ),
            (422, said("Budget has been exceeded! Current cost: 2", type="budget_exceeded"), errors.LLMQuotaExceeded),
            (403, {"code": 30001, "message": "Sorry, your account balance is insufficient"}, errors.LLMQuotaExceeded),
            (401, said("Invalid API Key", type="authentication_error", code=401), errors.LLMUnauthorized),
            (401, "Invalid token", errors.LLMUnauthorized),
            (404, said("File Not Found", type="not_found_error", code=404), errors.LLMNotFound),
            (404, said("Invalid URL (POST /v1/v1/chat/completions)"), errors.LLMNotFound),
            (404, said("Resource not found", code="404"), errors.LLMNotFound),
            (404, "", errors.LLMNotFound),
            (404, "<html><title>404 Not Found</title></html>", errors.LLMNotFound),
            (400, {"error": {"message": "API key not valid. Please pass a valid API key."}}, errors.LLMUnauthorized),
        ],
    )
    async def test_it_pauses_the_provider_at_once(
        self, server: ModelServer, kimi: KimiProvider, status: int, body: object, kind: type[LLMError]
    ) -> None:
        raw = body.encode() if isinstance(body, str) else json.dumps(body, ensure_ascii=False).encode()
        error = await failure(server, kimi, plain(status, raw, "application/json"))
        assert (type(error), error.pauses_provider) == (kind, True)

    @pytest.mark.parametrize(
        ("status", "body", "kind"),
        [
            (429, said("Rate limit reached for requests", code="rate_limit_exceeded"), errors.LLMRateLimited),
            (
                429,
                said("You exceeded your current quota, please check your plan and billing. Please retry in 31.5s."),
                errors.LLMRateLimited,
            ),
            (429, {"error": "Model is overloaded", "error_type": "overloaded"}, errors.LLMOverloaded),
            (424, {"error": "Request failed during generation", "error_type": "generation"}, errors.LLMOverloaded),
            (503, said("Loading model", type="unavailable_error", code=503), errors.LLMOverloaded),
            (409, said("Conflict"), errors.LLMOverloaded),
            (
                400,
                said("Could not finish the message because max_tokens or model output limit was reached. Try again."),
                errors.LLMEmptyCompletion,
            ),
        ],
    )
    async def test_what_passes_by_itself_is_tried_again(
        self, server: ModelServer, kimi: KimiProvider, status: int, body: object, kind: type[LLMError]
    ) -> None:
        error = await failure(server, kimi, plain(status, json.dumps(body).encode(), "application/json"))
        assert (type(error), error.permanent, error.pauses_provider) == (kind, False, False)

    async def test_a_time_that_the_text_names_is_waited_for(self, server: ModelServer, kimi: KimiProvider) -> None:
        body = json.dumps(said("Quota exceeded. Please retry in 31.5s.")).encode()
        assert (await failure(server, kimi, plain(429, body, "application/json"))).retry_after == 31.5

    @pytest.mark.parametrize(
        "body",
        [
            said("The response was filtered due to Azure OpenAI's content management policy.", code="content_filter"),
            said("The request was rejected because it was considered high risk", type="content_filter"),
            said("Input text data may contain inappropriate content.", code="data_inspection_failed"),
            said("系统检测到输入或生成内容可能包含不安全或敏感内容", code="1301"),
        ],
    )
    async def test_a_content_filter_is_permanent_and_named(
        self, server: ModelServer, kimi: KimiProvider, body: object
    ) -> None:
        error = await failure(server, kimi, plain(400, json.dumps(body).encode(), "application/json"))
        assert (type(error), error.permanent, error.pauses_provider) == (errors.LLMContentFiltered, True, False)

    @pytest.mark.parametrize("words", TOO_LONG)
    async def test_a_prompt_that_is_too_long_is_named_in_all_wordings(
        self, server: ModelServer, kimi: KimiProvider, words: str
    ) -> None:
        error = await failure(server, kimi, plain(400, json.dumps(said(words)).encode(), "application/json"))
        assert (type(error), error.permanent, error.pauses_provider) == (errors.LLMContextExceeded, True, False)

    async def test_a_page_in_place_of_the_api_is_a_wrong_address(self, server: ModelServer, kimi: KimiProvider) -> None:
        error = await failure(server, kimi, plain(200, b"<html>Welcome</html>", "text/html"))
        assert error.pauses_provider
        assert "KIMI_BASE_URL" in str(error)


class TestParametersThatAServerRefuses:
    @pytest.mark.parametrize(
        ("status", "body"),
        [
            (
                400,
                {
                    "error": {
                        "message": "Unsupported parameter: 'max_tokens' is not supported with this model."
                        " Use 'max_completion_tokens' instead.",
                        "type": "invalid_request_error",
                        "param": "max_tokens",
                        "code": "unsupported_parameter",
                    }
                },
            ),
        ],
    )
    async def test_the_newer_name_of_the_budget_is_learned_once(
        self, server: ModelServer, status: int, body: object
    ) -> None:
        provider = a_provider(server.base_url)
        server.enqueue(plain(status, json.dumps(body).encode(), "application/json"))
        for _ in range(2):
            await provider.complete(an_assignment(max_tokens=1234))
        names = [sorted(received.body.keys() & {"max_tokens", "max_completion_tokens"}) for received in server.requests]
        assert names == [["max_tokens"], ["max_completion_tokens"], ["max_completion_tokens"]]
        await provider.aclose()

    @pytest.mark.parametrize(
        ("status", "body"),
        [
            (
                422,
                {
                    "detail": [
                        {
                            "type": "extra_forbidden",
                            "loc": ["body", "stream_options"],
                            "msg": "Extra inputs are not permitted",
                        }
                    ]
                },
            ),
            (400, {"error": {"message": "Unrecognized request argument supplied: stream_options"}}),
            (400, {"error": {"message": "Unknown parameter: 'stream_options'."}}),
            (400, said("Extra inputs are not permitted, field: 'stream_options'")),
            (400, said("Argument not supported on this model: stream_options")),
            (
                400,
                [{"error": {"code": 400, "message": 'Unknown name "stream_options": Cannot find field.'}}],
            ),
            (
                422,
                {
                    "object": "error",
                    "message": {
                        "detail": [{"loc": ["body", "stream_options"], "msg": "Extra inputs are not permitted"}]
                    },
                    "code": "3001",
                },
            ),
            (
                400,
                {
                    "object": "error",
                    "message": "[{'type': 'extra_forbidden', 'loc': ('body', 'stream_options')}]",
                    "code": 400,
                },
            ),
        ],
    )
    async def test_stream_options_are_left_out_where_they_are_unknown(
        self, server: ModelServer, status: int, body: object
    ) -> None:
        provider = a_provider(server.base_url)
        server.enqueue(plain(status, json.dumps(body).encode(), "application/json"))
        for _ in range(2):
            await provider.complete(an_assignment())
        assert ["stream_options" in received.body for received in server.requests] == [True, False, False]
        await provider.aclose()

    @pytest.mark.parametrize(
        "message",
        [
            "Invalid max_tokens value, the valid range of max_tokens is [1, 8192]",
            "`max_tokens` must be less than or equal to `8192`, the maximum value for `max_tokens` is less",
            "max_tokens is too large: 16000. This model supports at most 8192 completion tokens, you provided 16000.",
            "max_tokens: 16000 > 8192, which is the maximum allowed number of output tokens",
        ],
    )
    async def test_a_budget_above_the_servers_limit_is_lowered_to_it(self, server: ModelServer, message: str) -> None:
        provider = a_provider(server.base_url)
        body = json.dumps({"error": {"message": message, "type": "invalid_request_error"}}).encode()
        server.enqueue(plain(400, body, "application/json"))
        for _ in range(2):
            await provider.complete(an_assignment(max_tokens=16_000))
        assert [received.body["max_tokens"] for received in server.requests] == [16_000, 8192, 8192]
        await provider.aclose()

    @pytest.mark.parametrize(
        "message",
        [
            "This model's maximum context length is 8192 tokens. However, you requested 17234 tokens"
            " (1234 in the messages, 16000 in the completion). Please reduce the length of the messages or completion.",
            "'max_tokens' or 'max_completion_tokens' is too large: 16000. This model's maximum context length is 8192"
            " tokens and your request has 1234 input tokens (16000 > 8192 - 1234).",
            "You passed 1234 input tokens and requested 16000 output tokens. However, the model's context length is"
            " only 8192 tokens, resulting in a maximum input length of 1 tokens.",
            "Requested token count exceeds the model's maximum context length of 8192 tokens. You requested a total of"
            " 17234 tokens: 1234 tokens from the input messages and 16000 tokens for the completion.",
            "Input validation error: `inputs` tokens + `max_new_tokens` must be <= 8192. Given: 1234 `inputs` tokens"
            " and 16000 `max_new_tokens`",
            "This endpoint's maximum context length is 8192 tokens. However, you requested about 17234 tokens (1234 of"
            " text input, 16000 in the output).",
        ],
    )
    async def test_a_budget_above_what_the_context_leaves_is_fitted_for_this_call(
        self, server: ModelServer, message: str
    ) -> None:
        provider = a_provider(server.base_url)
        body = json.dumps({"error": {"message": message, "code": 400}}).encode()
        server.enqueue(plain(400, body, "application/json"))
        for _ in range(2):
            await provider.complete(an_assignment(max_tokens=16_000))
        assert [received.body["max_tokens"] for received in server.requests] == [16_000, 8192 - 1234, 16_000]
        await provider.aclose()

    async def test_a_prompt_that_fills_the_context_is_an_error_that_names_the_setting(
        self, server: ModelServer, kimi: KimiProvider
    ) -> None:
        message = (
            "This model's maximum context length is 8192 tokens. However, you requested 24000 tokens"
            " (8000 in the messages, 16000 in the completion)."
        )
        body = json.dumps({"error": {"message": message, "code": "context_length_exceeded"}}).encode()
        error = await failure(server, kimi, plain(400, body, "application/json"))
        assert (type(error), error.permanent) == (errors.LLMContextExceeded, True)
        assert "KIMI_MAX_TOKENS" in str(error)

    async def test_a_parameter_that_cannot_be_left_out_is_refused_as_before(
        self, server: ModelServer, kimi: KimiProvider
    ) -> None:
        body = json.dumps({"error": {"message": "Unknown parameter: 'messages'"}}).encode()
        error = await failure(server, kimi, plain(400, body, "application/json"))
        assert type(error) is errors.LLMBadRequest
        assert len(server.requests) == 1


class TestTheAddress:
    @pytest.mark.parametrize("end", ["/chat/completions", "/chat/completions/"])
    async def test_the_address_of_the_endpoint_itself_works(self, server: ModelServer, end: str) -> None:
        provider = a_provider(server.base_url + end)
        await provider.complete(an_assignment())
        assert server.requests[0].path == "/v1/chat/completions"
        await provider.aclose()

    @pytest.mark.parametrize(
        ("name", "value"),
        [
            ("NO_PROXY", "localhost,fd07:b51a:cc66:f0::/64,127.0.0.1"),
            ("NO_PROXY", "[::1],127.0.0.0/8,,*.local:99"),
        ],
    )
    async def test_an_odd_list_of_exceptions_does_no_harm(
        self, server: ModelServer, monkeypatch: pytest.MonkeyPatch, name: str, value: str
    ) -> None:
        monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:1")
        monkeypatch.setenv(name, value)
        provider = a_provider(server.base_url)
        assert (await provider.complete(an_assignment())).text
        await provider.aclose()

    async def test_certificates_that_cannot_be_used_are_named(
        self, server: ModelServer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("SSL_CERT_FILE", "/nonexistent/authorities.pem")
        with pytest.raises(ConfigurationError, match=r"SSL_CERT_FILE or SSL_CERT_DIR cannot be used \(No such file"):
            a_provider(server.base_url)

    async def test_a_proxy_that_cannot_be_used_is_named(
        self, server: ModelServer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("ALL_PROXY", "socks5://h:1")
        provider = a_provider(server.base_url)
        error = await failure(server, provider)
        assert "ALL_PROXY" in str(error)
        assert "NO_PROXY" in str(error)
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        assert (await provider.complete(an_assignment())).text
        await provider.aclose()
