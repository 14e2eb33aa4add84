"""How Kimi's client fails: broken streams and error responses, never with a trace of the key in the error."""

from __future__ import annotations

import pytest

from tests.fakes.behaviours import (
    REFUSALS,
    Behaviour,
    chunk,
    completion,
    dropped,
    error_in_stream,
    filtered,
    only_reasoning,
    plain,
    refusal,
    truncated,
)
from tests.fakes.model_server import ModelServer
from tests.llm.assignments import an_assignment
from tests.llm.providers import KEY, a_provider
from vm_webapp.llm.errors import (
    LLMBadRequest,
    LLMConnectionError,
    LLMContentFiltered,
    LLMEmptyCompletion,
    LLMError,
    LLMForbidden,
    LLMModelNotFound,
    LLMNotFound,
    LLMOverloaded,
    LLMPaymentRequired,
    LLMProtocolError,
    LLMQuotaExceeded,
    LLMRateLimited,
    LLMUnauthorized,
)
from vm_webapp.llm.kimi import KimiProvider

pytestmark = pytest.mark.asyncio(loop_scope="module")


class TestAnIncompleteCompletion:
    async def test_the_end_of_the_budget_marks_the_completion(self, server: ModelServer, kimi: KimiProvider) -> None:
        server.enqueue(truncated("# Half"))
        done = await kimi.complete(an_assignment())
        assert (done.text, done.truncated) == ("# Half", True)

    @pytest.mark.parametrize("text", ["# Half", ""])
    async def test_a_text_that_a_filter_stopped_is_no_artifact(
        self, server: ModelServer, kimi: KimiProvider, text: str
    ) -> None:
        server.enqueue(filtered(text))
        with pytest.raises(LLMContentFiltered, match="a content filter stopped the text") as raised:
            await kimi.complete(an_assignment())
        assert raised.value.partial is not None
        assert raised.value.partial.text == text

    @pytest.mark.parametrize(
        ("behaviour", "reason"),
        [
            (only_reasoning(), "reasoning used up the token budget"),
            (completion(" \n\t"), "no reason given"),
            (Behaviour(text="", streamed=False), "no reason given"),
        ],
        ids=["reasoning", "blank", "one JSON object"],
    )
    async def test_no_text_is_a_failure_and_says_why(
        self, server: ModelServer, kimi: KimiProvider, behaviour: Behaviour, reason: str
    ) -> None:
        server.enqueue(behaviour)
        with pytest.raises(LLMEmptyCompletion, match=reason):
            await kimi.complete(an_assignment())

    @pytest.mark.parametrize(
        "behaviour",
        [
            dropped(after=0),
            dropped(after=1),
            Behaviour(stop_after=1),
            Behaviour(insert=b'data: {"choices":[{"delta":{"content":"Hal', stop_after=0),
        ],
        ids=["before text", "in the text", "clean end", "clean end within a chunk"],
    )
    async def test_a_broken_stream_is_a_connection_error(
        self, server: ModelServer, kimi: KimiProvider, behaviour: Behaviour
    ) -> None:
        server.enqueue(behaviour)
        with pytest.raises(LLMConnectionError, match="broke"):
            await kimi.complete(an_assignment())

    @pytest.mark.parametrize(
        "junk",
        [
            b'data: {"choices": [{"delta"\n\n',
            b"data: <html>\n\n",
            b"data: 42\n\n",
            b'data: ["x"]\n\n',
            b'data: {"choices": 5}\n\n',
            b'data: {"choices": {"a": 1}}\n\n',
            b'data: {"choices": ["x"]}\n\n',
            b"data: " + b"[" * 100_000 + b"\n\n",
            chunk(delta={"content": 7}),
            chunk(delta={}, finish_reason=7),
        ],
    )
    async def test_junk_in_the_stream_is_a_protocol_error(
        self, server: ModelServer, kimi: KimiProvider, junk: bytes
    ) -> None:
        server.enqueue(Behaviour(insert=junk))
        with pytest.raises(LLMProtocolError, match="the server sent"):
            await kimi.complete(an_assignment())

    async def test_a_web_page_points_to_the_base_url(self, server: ModelServer, kimi: KimiProvider) -> None:
        server.enqueue(plain(200, b"<html>Welcome</html>", "text/html; charset=utf-8"))
        with pytest.raises(LLMNotFound, match="web page; check KIMI_BASE_URL"):
            await kimi.complete(an_assignment())


class TestErrorResponses:
    @pytest.mark.parametrize(
        ("name", "expected"),
        [
            ("unauthorized", LLMUnauthorized),
            ("payment_required", LLMPaymentRequired),
            ("client_not_listed", LLMForbidden),
            ("concurrency", LLMRateLimited),
            ("subscription_used_up", LLMQuotaExceeded),
            ("not_found", LLMModelNotFound),
            ("bad_request", LLMBadRequest),
            ("overloaded", LLMOverloaded),
            ("rate_limited", LLMRateLimited),
            ("period_used_up", LLMQuotaExceeded),
            ("balance_used_up", LLMQuotaExceeded),
            ("server_error", LLMOverloaded),
            ("bad_gateway", LLMOverloaded),
            ("unavailable", LLMOverloaded),
            ("cut_off", LLMOverloaded),
        ],
    )
    async def test_each_error_response_becomes_its_error(
        self, server: ModelServer, kimi: KimiProvider, name: str, expected: type[LLMError]
    ) -> None:
        server.enqueue(REFUSALS[name])
        with pytest.raises(LLMError) as raised:
            await kimi.complete(an_assignment())
        assert type(raised.value) is expected
        assert str(raised.value).startswith(f"HTTP {REFUSALS[name].status}")

    async def test_the_error_of_an_unlisted_client_is_not_cut_off(
        self, server: ModelServer, kimi: KimiProvider
    ) -> None:
        server.enqueue(refusal(403, "access_terminated_error", "This client may not. " * 50))
        with pytest.raises(LLMForbidden, match=r"KIMI_BASE_URL=https://api\.moonshot\.ai/v1$"):
            await kimi.complete(an_assignment())

    async def test_retry_after_is_passed_on(self, server: ModelServer, kimi: KimiProvider) -> None:
        server.enqueue(refusal(429, "rate_limit_reached_error", "Slow down", headers={"Retry-After": "7"}))
        with pytest.raises(LLMRateLimited) as raised:
            await kimi.complete(an_assignment())
        assert raised.value.retry_after == 7

    async def test_a_huge_error_page_is_read_only_as_far_as_it_matters(
        self, server: ModelServer, kimi: KimiProvider
    ) -> None:
        server.enqueue(plain(500, b"No. " * 500_000, "text/plain"))
        with pytest.raises(LLMOverloaded, match=r"^HTTP 500: No\. .{,300}…$"):
            await kimi.complete(an_assignment())

    async def test_the_client_works_on_after_a_refusal(self, server: ModelServer, kimi: KimiProvider) -> None:
        server.enqueue(REFUSALS["overloaded"], completion("Now."))
        with pytest.raises(LLMOverloaded):
            await kimi.complete(an_assignment())
        assert (await kimi.complete(an_assignment())).text == "Now."

    @pytest.mark.parametrize(
        ("kind", "expected", "advice"),
        [
            ("engine_overloaded_error", LLMOverloaded, ""),
            ("rate_limit_reached_error", LLMRateLimited, ""),
            ("exceeded_current_quota_error", LLMQuotaExceeded, "; check the account of KIMI_API_KEY"),
            ("server_error", LLMOverloaded, ""),
            ("unheard_of_error", LLMProtocolError, ""),
        ],
    )
    async def test_an_error_within_the_stream_is_classified(
        self, server: ModelServer, kimi: KimiProvider, kind: str, expected: type[LLMError], advice: str
    ) -> None:
        server.enqueue(error_in_stream(kind, "It went wrong"))
        with pytest.raises(LLMError) as raised:
            await kimi.complete(an_assignment())
        assert str(raised.value) == f"the stream ended with an error: It went wrong{advice}"
        assert type(raised.value) is expected


class TestTheKey:
    @pytest.mark.parametrize("key", [KEY, "plain-key-without-a-known-prefix-0123456789", "a+b/c=d=="])
    async def test_a_server_that_echoes_the_key_does_not_put_it_into_the_error(
        self, server: ModelServer, key: str
    ) -> None:
        provider = a_provider(server.base_url, key=key)
        for before in (0, 270, 285, 299):  # the last ones end up astride the place where a message is cut
            echo = "x" * (before - 1) + " " + key + " is wrong"
            cut_off = b'{"error":{"type":"server_error","message":"Key %s' % key[:-2].encode()
            behaviours = (
                refusal(401, "invalid_authentication_error", echo),
                plain(401, echo.encode(), "text/plain"),
                plain(502, f"<html><title>{echo}</title></html>".encode(), "text/html"),
                plain(500, cut_off, "application/json"),
                error_in_stream("unheard_of_error", echo),
                Behaviour(insert=f"data: {echo}\n\n".encode()),
            )
            for behaviour in behaviours:
                server.enqueue(behaviour)
                with pytest.raises(LLMError) as raised:
                    await provider.complete(an_assignment())
                assert key[:6] not in str(raised.value)
        await provider.aclose()

    async def test_the_key_is_in_no_representation(self, kimi: KimiProvider) -> None:
        assert KEY not in repr(kimi)
