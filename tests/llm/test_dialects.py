"""What OpenAI-compatible servers send that OpenAI does not: each row of the tables in ``docs/models.md``."""

from __future__ import annotations

import json

import pytest

from tests.fakes.behaviours import Behaviour, chunk, plain
from tests.fakes.model_server import ModelServer
from tests.llm.assignments import an_assignment
from tests.llm.providers import a_provider
from vm_webapp.errors import ConfigurationError
from vm_webapp.llm import errors
from vm_webapp.llm import kimi as kimi_module
from vm_webapp.llm.errors import LLMError
from vm_webapp.llm.kimi import KimiProvider

pytestmark = pytest.mark.asyncio(loop_scope="module")

DONE = b"data: [DONE]\n\n"
WHOLE = "# Plan\n\nWeek 1: we bake.\n"


def text(content: object) -> bytes:
    """A chunk with a piece of the text."""
    return b"data: " + json.dumps({"choices": [{"delta": {"content": content}}]}).encode() + b"\n\n"


def finish(reason: str | None) -> bytes:
    """The chunk with the finish reason."""
    return b"data: " + json.dumps({"choices": [{"delta": {}, "finish_reason": reason}]}).encode() + b"\n\n"


def stream(*parts: bytes) -> Behaviour:
    return plain(200, b"".join(parts), "text/event-stream")


async def failure(server: ModelServer, kimi: KimiProvider, *behaviours: Behaviour) -> LLMError:
    server.enqueue(*behaviours)
    with pytest.raises(LLMError) as raised:
        await kimi.complete(an_assignment())
    return raised.value


class TestTheFinishReason:
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
            b'data: {"error":{"message":"engine died","code":502,"metadata":{"provider_name":"X"}},'
            b'"choices":[{"index":0,"delta":{"content":""},"finish_reason":"error"}]}\n\n',
        ],
    )
    async def test_a_failing_engine_is_tried_again(self, server: ModelServer, kimi: KimiProvider, line: bytes) -> None:
        error = await failure(server, kimi, stream(text("# Ha"), line, DONE))
        assert (type(error), error.overload) == (errors.LLMOverloaded, True)
        assert "engine died" in str(error)

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
        blocks = [
            {"type": "thinking", "thinking": [{"type": "text", "text": "Let me see."}]},
            {"type": "text", "text": "# Plan\n\n"},
            {"type": "reference", "reference_ids": [1]},
        ]
        server.enqueue(
            stream(text(blocks), text([{"type": "text", "text": "Week 1: we bake.\n"}]), finish("stop"), DONE)
        )
        assert (await kimi.complete(an_assignment())).text == WHOLE

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
            (400, {"error": {"message": "API key not valid. Please pass a valid API key."}}, errors.LLMUnauthorized),
        ],
    )
    async def test_it_pauses_the_provider_at_once(
        self, server: ModelServer, kimi: KimiProvider, status: int, body: object, kind: type[LLMError]
    ) -> None:
        raw = body.encode() if isinstance(body, str) else json.dumps(body, ensure_ascii=False).encode()
        error = await failure(server, kimi, plain(status, raw, "application/json"))
        assert (type(error), error.pauses_provider) == (kind, True)

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
