"""Parameters that a server refuses, addresses and proxies (``docs/models.md``)."""

from __future__ import annotations

import json

import pytest

from tests.fakes.behaviours import plain
from tests.fakes.model_server import ModelServer
from tests.llm.assignments import an_assignment
from tests.llm.dialects import failure, said
from tests.llm.providers import a_provider
from vm_webapp.errors import ConfigurationError
from vm_webapp.llm import errors
from vm_webapp.llm.kimi import KimiProvider

pytestmark = pytest.mark.asyncio(loop_scope="module")


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
