"""Which provider a process uses."""

from __future__ import annotations

import asyncio

import pytest

from tests.fakes.behaviours import stalled
from tests.fakes.model_server import ModelServer
from tests.llm.assignments import an_assignment
from vm_webapp.llm.choice import MissingProvider, choose_provider
from vm_webapp.llm.errors import LLMContextExceeded, LLMNotConfigured
from vm_webapp.llm.kimi import KimiProvider
from vm_webapp.llm.offline import OfflineProvider, TemplateProvider
from vm_webapp.settings import Settings


@pytest.mark.parametrize(
    ("managed", "key", "expected", "name", "model"),
    [
        (False, None, OfflineProvider, "offline", None),
        (False, "sk-test-0123", KimiProvider, "kimi", "kimi-k2"),
        (True, "sk-test-0123", KimiProvider, "kimi", "kimi-k2"),
        (True, None, MissingProvider, "kimi", None),
    ],
    ids=["a laptop without a key", "a laptop with a key", "managed with a key", "managed without a key"],
)
def test_the_key_and_the_mode_decide(
    managed: bool, key: str | None, expected: type, name: str, model: str | None
) -> None:
    provider = choose_provider(Settings(managed=managed, kimi_api_key=key, kimi_model="kimi-k2"))
    assert type(provider) is expected
    assert (provider.name, provider.model) == (name, model)
    asyncio.run(provider.aclose())


async def test_managed_mode_without_a_key_fails_and_says_what_to_set() -> None:
    provider = choose_provider(Settings(managed=True))
    with pytest.raises(LLMNotConfigured, match="set KIMI_API_KEY") as raised:
        await provider.complete(an_assignment())
    assert raised.value.permanent


async def test_the_settings_reach_the_server(server: ModelServer) -> None:
    settings = Settings(kimi_api_key="sk-test-0123", kimi_model="kimi-k2", kimi_base_url=server.base_url)
    provider = choose_provider(settings)
    done = await provider.complete(an_assignment())
    await provider.aclose()
    assert done.model == "kimi-k2"
    assert server.requests[0].headers["authorization"] == "Bearer sk-test-0123"


async def test_the_budget_of_a_call_can_be_lowered_by_a_setting(server: ModelServer) -> None:
    settings = Settings(kimi_api_key="sk-test-0123", kimi_base_url=server.base_url, kimi_max_tokens=3_000)
    provider = choose_provider(settings)
    for asked in (32_000, 2_000):
        await provider.complete(an_assignment(max_tokens=asked))
    await provider.aclose()
    assert [received.body["max_tokens"] for received in server.requests] == [3_000, 2_000]


async def test_what_is_sent_is_held_against_the_context_of_the_settings(server: ModelServer) -> None:
    settings = Settings(kimi_api_key="sk-test-0123", kimi_base_url=server.base_url, kimi_context_tokens=8_192)
    provider = choose_provider(settings)
    with pytest.raises(LLMContextExceeded, match="KIMI_CONTEXT_TOKENS=8192"):
        await provider.complete(an_assignment(user="word " * 80_000))
    await provider.aclose()
    assert server.requests == []


async def test_every_call_has_a_connection_however_many_threads_the_stock_command_was_given(
    server: ModelServer,
) -> None:
    server.script = lambda body: stalled()
    provider = choose_provider(Settings(kimi_api_key="sk-test-0123", kimi_base_url=server.base_url, worker_threads=1))
    tasks = [asyncio.create_task(provider.complete(an_assignment())) for _ in range(24)]
    await asyncio.to_thread(server.wait_until, lambda s: s.in_flight == 24)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    await provider.aclose()


async def test_a_stage_without_a_model_gets_what_was_rendered() -> None:
    pieces: list[str] = []
    done = await TemplateProvider().complete(an_assignment(user="Rendered."), on_text=pieces.append)
    assert (done.text, done.provider, done.model, pieces) == ("Rendered.", "template", None, ["Rendered."])
