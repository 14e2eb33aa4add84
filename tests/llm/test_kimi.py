"""Kimi's client against a server that speaks its wire format."""

from __future__ import annotations

import asyncio

import pytest

from tests.fakes.behaviours import Behaviour, chunk, completion, delayed, redirect, stalled
from tests.fakes.model_server import ModelServer
from tests.llm.assignments import an_assignment
from tests.llm.providers import KEY, a_provider
from vm_webapp import __version__
from vm_webapp.llm.errors import LLMConnectionError, LLMNotFound
from vm_webapp.llm.kimi import KimiProvider

pytestmark = pytest.mark.asyncio(loop_scope="module")


class TestTheRequest:
    async def test_the_user_agent_is_our_own(self, server: ModelServer, kimi: KimiProvider) -> None:
        await kimi.complete(an_assignment())
        headers = server.requests[0].headers
        assert headers["user-agent"] == f"vm-webapp/{__version__}"
        assert headers["authorization"] == f"Bearer {KEY}"

    async def test_the_request_asks_for_a_stream_with_usage_and_sets_nothing_that_is_fixed(
        self, server: ModelServer, kimi: KimiProvider
    ) -> None:
        await kimi.complete(an_assignment(system="S", user="U", max_tokens=1234))
        assert server.requests[0].body == {
            "model": "kimi-for-coding",
            "messages": [{"role": "system", "content": "S"}, {"role": "user", "content": "U"}],
            "max_tokens": 1234,
            "stream": True,
            "stream_options": {"include_usage": True},
        }

    @pytest.mark.parametrize("ending", ["", "/", "//"])
    async def test_a_slash_at_the_end_of_the_base_url_changes_nothing(self, server: ModelServer, ending: str) -> None:
        provider = a_provider(server.base_url + ending)
        await provider.complete(an_assignment())
        assert server.requests[0].path == "/v1/chat/completions"
        await provider.aclose()

    async def test_a_redirect_is_refused_and_the_key_is_sent_to_no_other_server(
        self, server: ModelServer, kimi: KimiProvider
    ) -> None:
        with ModelServer() as elsewhere:
            server.enqueue(redirect(f"{elsewhere.base_url}/chat/completions"))
            with pytest.raises(LLMNotFound, match=r"HTTP 307.*check KIMI_BASE_URL"):
                await kimi.complete(an_assignment())
            assert elsewhere.requests == []


class TestAGoodCompletion:
    async def test_the_completion_is_the_content_without_the_reasoning(
        self, server: ModelServer, kimi: KimiProvider
    ) -> None:
        server.enqueue(Behaviour(text="# Plan\n\n" + "word " * 50, reasoning="Hidden thoughts."))
        pieces: list[str] = []
        done = await kimi.complete(an_assignment(), on_text=pieces.append)
        assert done.text == "# Plan\n\n" + "word " * 50
        assert "".join(pieces) == done.text
        assert len(pieces) > 1
        assert (done.provider, done.model, done.truncated) == ("kimi", "kimi-for-coding", False)

    async def test_the_prompt_reaches_the_model(self, server: ModelServer, kimi: KimiProvider) -> None:
        assert "A CRM for dental clinics" in (await kimi.complete(an_assignment())).text

    @pytest.mark.parametrize(
        "behaviour",
        [
            Behaviour(text="Words"),
            Behaviour(text="Words", usage_in_choice=True),
            Behaviour(text="Words", streamed=False),
        ],
        ids=["chunk of its own", "in the choice", "one JSON object"],
    )
    async def test_usage_is_recorded_wherever_it_stands(
        self, server: ModelServer, kimi: KimiProvider, behaviour: Behaviour
    ) -> None:
        server.enqueue(behaviour)
        done = await kimi.complete(an_assignment(system="S" * 10, user="U" * 10))
        assert done.text == "Words"
        assert done.prompt_tokens == 20 // 4 + 1
        assert done.completion_tokens == len(behaviour.reasoning + "Words") // 4 + 1

    async def test_the_model_that_responded_is_recorded(self, server: ModelServer, kimi: KimiProvider) -> None:
        server.enqueue(Behaviour(model="kimi-k2.5"))
        assert (await kimi.complete(an_assignment())).model == "kimi-k2.5"

    async def test_a_line_separator_within_json_does_not_split_the_chunk(
        self, server: ModelServer, kimi: KimiProvider
    ) -> None:
        server.enqueue(completion("one\u2028two\u2029three\x85four"))
        assert (await kimi.complete(an_assignment())).text == "one\u2028two\u2029three\x85four"

    async def test_what_postgresql_cannot_store_is_replaced(self, server: ModelServer, kimi: KimiProvider) -> None:
        text = b'"choices":[{"delta":{"content":"a\\u0000b\\ud800c"},"finish_reason":"stop"}]'
        server.enqueue(Behaviour(insert=b'data: {"model":"kimi\\u0000-\\ud800",%s}\n\n' % text, stop_after=0))
        done = await kimi.complete(an_assignment())
        assert (done.text, done.model) == ("ab?c", "kimi-?")

    async def test_a_slow_first_byte_is_waited_for(self, server: ModelServer, kimi: KimiProvider) -> None:
        server.enqueue(delayed(0.05))
        assert (await kimi.complete(an_assignment())).text

    async def test_a_stream_may_end_without_its_end_mark_once_the_model_said_why_it_stopped(
        self, server: ModelServer, kimi: KimiProvider
    ) -> None:
        server.enqueue(Behaviour(insert=chunk(delta={"content": "Whole"}, finish_reason="stop"), stop_after=0))
        assert (await kimi.complete(an_assignment())).text == "Whole"

    @pytest.mark.parametrize("count", [-1, True, "12", 1.5, 2**31, None])
    async def test_an_invalid_token_count_is_left_out(
        self, server: ModelServer, kimi: KimiProvider, count: object
    ) -> None:
        usage = chunk(delta={}, usage={"prompt_tokens": count, "completion_tokens": 7})
        end = chunk(delta={"content": "Text"}, finish_reason="stop")
        server.enqueue(Behaviour(insert=usage + end, stop_after=0))
        done = await kimi.complete(an_assignment())
        assert (done.prompt_tokens, done.completion_tokens) == (None, 7)

    async def test_comments_keep_a_stream_alive(self, server: ModelServer, kimi: KimiProvider) -> None:
        server.enqueue(Behaviour(insert=b": keep-alive\n\nevent: ping\n\n", text="Text"))
        assert (await kimi.complete(an_assignment())).text == "Text"


class TestTheConnection:
    async def test_a_server_that_is_not_there(self) -> None:
        with ModelServer() as gone:
            base_url = gone.base_url
        provider = a_provider(base_url)
        with pytest.raises(LLMConnectionError, match=r"^no connection to 127\.0\.0\.1: \w+"):
            await provider.complete(an_assignment())
        await provider.aclose()

    @pytest.mark.parametrize("base_url", ["ftp://127.0.0.1/v1", "http://host:port/v1", "no-scheme"])
    async def test_a_base_url_that_cannot_be_called_is_permanent(self, base_url: str) -> None:
        provider = a_provider(base_url)
        with pytest.raises(LLMNotFound, match="KIMI_BASE_URL cannot be called"):
            await provider.complete(an_assignment())
        await provider.aclose()

    @pytest.mark.parametrize("behaviour", [stalled(), stalled(after=0), Behaviour(silent=True)])
    async def test_a_canceled_task_closes_the_connection_of_a_silent_call(
        self, server: ModelServer, kimi: KimiProvider, behaviour: Behaviour
    ) -> None:
        server.enqueue(behaviour)
        task = asyncio.create_task(kimi.complete(an_assignment()))
        await asyncio.to_thread(server.wait_until, lambda s: s.in_flight == 1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await asyncio.to_thread(server.wait_until, lambda s: s.disconnects == 1 and s.in_flight == 0)

    async def test_calls_are_in_flight_side_by_side(self, server: ModelServer, kimi: KimiProvider) -> None:
        server.script = lambda body: stalled()
        tasks = [asyncio.create_task(kimi.complete(an_assignment())) for _ in range(20)]
        await asyncio.to_thread(server.wait_until, lambda s: s.in_flight == 20)
        for task in tasks:
            task.cancel()
        assert {type(outcome) for outcome in await asyncio.gather(*tasks, return_exceptions=True)} == {
            asyncio.CancelledError
        }
        assert server.most_in_flight == 20
