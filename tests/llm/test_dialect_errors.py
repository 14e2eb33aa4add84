"""Errors with status 200, and those that only a person can repair (``docs/models.md``)."""

from __future__ import annotations

import json

import pytest

from tests.fakes.behaviours import plain
from tests.fakes.model_server import ModelServer
from tests.llm.dialects import DONE, failure, said, stream, text
from vm_webapp.llm import errors
from vm_webapp.llm.errors import LLMError
from vm_webapp.llm.kimi import KimiProvider

pytestmark = pytest.mark.asyncio(loop_scope="module")

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
# What the sentence for the person names.
TO_CHECK: dict[type[LLMError], str] = {
    errors.LLMUnauthorized: "; check KIMI_API_KEY",
    errors.LLMForbidden: "; check what KIMI_API_KEY may use",
    errors.LLMPaymentRequired: "; check the account of KIMI_API_KEY",
    errors.LLMQuotaExceeded: "; check the account of KIMI_API_KEY",
    errors.LLMModelNotFound: "; check KIMI_MODEL",
    errors.LLMNotFound: "; check KIMI_BASE_URL",
}


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
            (400, said("No connected db.", type="no_db_connection", code="400"), errors.LLMUnauthorized),
            (403, said("The API you are accessing is not open", type="permission_error"), errors.LLMForbidden),
            (
                404,
                {"error": "Cannot find an appropriate cached snapshot folder for the specified revision"},
                errors.LLMModelNotFound,
            ),
            (
                404,
                {"error": "401 Client Error.\n\nRepository Not Found for url: https://hub/api/models/x."},
                errors.LLMModelNotFound,
            ),
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
        assert TO_CHECK[kind] in str(error)

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
            (503, said("Service Unavailable", type="no_db_connection", code="503"), errors.LLMOverloaded),
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
