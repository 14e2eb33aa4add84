"""The model's key is hidden in what its server sends, and a key that is a word hides no words."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.fakes.behaviours import Behaviour, completion, dropped, plain, refusal
from tests.fakes.model_server import ModelServer
from tests.llm.assignments import an_assignment
from tests.llm.providers import KEY, a_provider
from vm_webapp.llm.errors import LLMError
from vm_webapp.llm.key_mask import KeyMask, MaskedStream
from vm_webapp.proxies import proxy_secrets

WORDS = ("x", "sk", "key", "ollama", "EMPTY", "lm-studio", "not-needed", "placeholder", "no-key-required")
SECRETS = (KEY, "a+b/c=d==", "0123456789abcdef", "qwertzuiopasdfgh", 'with"quote&<b>/it', "vk.12345")
SENTENCES = (
    "model 'ollama' not found, try pulling it first; a task at risk, placeholder, lm-studio: EMPTY x",
    "no key at all, and no token either; the key is not-needed",
    "the keyword of a monkey: x, turkey: ollama",
)


@pytest.mark.parametrize("key", WORDS)
@pytest.mark.parametrize("text", SENTENCES)
def test_a_key_that_is_a_word_hides_no_word(key: str, text: str) -> None:
    assert KeyMask(key).hide_in_error(text) == text
    assert KeyMask(key).hide_in_text(text) == text


@pytest.mark.parametrize("key", WORDS)
@pytest.mark.parametrize(
    "message",
    [
        "Authorization: Bearer {}",
        "Incorrect API key provided: {}.",
        'got {{"api_key": "{}"}}',
        "invalid api-key '{}'",
        "APIKEY={} is unknown",
        "wrong token: {}, try another",
    ],
)
def test_an_error_that_calls_a_word_the_key_does_not_show_it(key: str, message: str) -> None:
    assert KeyMask(key).hide_in_error(message.format(key)) == message.format("[key]")
    assert KeyMask(key).hide_in_error(message.format(f"{key}s")) == message.format(f"{key}s")


@pytest.mark.parametrize("key", SECRETS)
@pytest.mark.parametrize("text", ["{}", "the key {} is wrong", "Bearer{}", "a{}b{}c", "{}{}"])
def test_a_secret_is_hidden_wherever_it_stands(key: str, text: str) -> None:
    mask = KeyMask(key)
    assert mask.hide_in_error(text.format(key, key)) == mask.hide_in_text(text.format(key, key))
    assert mask.hide_in_text(text.format(key, key)) == text.format("[key]", "[key]")


@pytest.mark.parametrize(
    ("key", "spelled"),
    [
        ("ab+cd/ef==12", r"ab+cd\/ef==12"),
        ("ab+cd/ef==12", "ab%2Bcd%2Fef%3D%3D12"),
        ("ab&cd<ef>12", "ab&amp;cd&lt;ef&gt;12"),
        ('ab"cd\\ef12', r"ab\"cd\\ef12"),
    ],
)
def test_a_secret_is_hidden_as_json_html_and_urls_spell_it(key: str, spelled: str) -> None:
    assert KeyMask(key).hide_in_error(f"key {spelled} is wrong") == "key [key] is wrong"


@given(st.lists(st.sampled_from([KEY, KEY[:9], KEY[:3], KEY[5:], "plan", "s", "-", " "]), max_size=8), st.data())
def test_a_text_in_pieces_shows_what_the_whole_text_shows(parts: list[str], data: st.DataObject) -> None:
    whole, shown, stream = "".join(parts), [], MaskedStream(KeyMask(KEY))
    while whole:
        length = data.draw(st.integers(1, len(whole)))
        shown.append(stream.add(whole[:length]))
        whole = whole[length:]
    assert "".join(shown) + stream.rest() == KeyMask(KEY).hide_in_text("".join(parts))
    assert KEY not in "".join(shown)


def test_most_of_a_secret_at_the_end_of_a_text_that_breaks_off_is_hidden() -> None:
    assert KeyMask(KEY).hide_in_text(f"Bearer {KEY[:-1]}") == "Bearer [key]"
    assert KeyMask(KEY).hide_in_text("of all plans") == "of all plans"


@pytest.mark.asyncio
@pytest.mark.parametrize(
    "behaviour",
    [
        completion(f"# Plan\n\nBearer {KEY} is what was sent, {KEY}."),
        Behaviour(text=f"# Plan\n\n{KEY}", streamed=False),
        Behaviour(text="# Plan", model=f"model-{KEY}"),
    ],
    ids=["streamed", "whole", "model's name"],
)
async def test_a_server_that_echoes_the_key_in_its_text_does_not_put_it_into_the_artifact(
    server: ModelServer, behaviour: Behaviour
) -> None:
    provider = a_provider(server.base_url)
    shown: list[str] = []
    server.enqueue(behaviour)
    done = await provider.complete(an_assignment(), on_text=shown.append)
    await provider.aclose()
    assert KEY not in f"{done}{shown}"
    assert "[key]" in f"{done}"
    assert "".join(shown).rstrip() == done.text.rstrip()


@pytest.mark.asyncio
async def test_a_text_that_breaks_off_after_the_key_does_not_show_it(server: ModelServer) -> None:
    provider = a_provider(server.base_url)
    shown: list[str] = []
    server.enqueue(Behaviour(text=f"{KEY} " * 40, drop_after=dropped().drop_after))
    with pytest.raises(LLMError) as raised:
        await provider.complete(an_assignment(), on_text=shown.append)
    await provider.aclose()
    assert raised.value.partial is not None
    assert raised.value.partial.text
    assert KEY[:8] not in f"{raised.value.partial}{''.join(shown)}"


@pytest.mark.asyncio
async def test_a_short_key_leaves_errors_and_artifacts_readable(server: ModelServer) -> None:
    provider = a_provider(server.base_url, key="ollama")
    server.enqueue(
        refusal(404, "not_found_error", "model 'ollama-3' not found by ollama"),
        plain(401, b"Invalid API key: ollama", "text/plain"),
        completion("# A guide to ollama"),
    )
    with pytest.raises(LLMError, match="'ollama-3' not found by ollama"):
        await provider.complete(an_assignment())
    with pytest.raises(LLMError, match=r"Invalid API key: \[key\]"):
        await provider.complete(an_assignment())
    assert (await provider.complete(an_assignment())).text == "# A guide to ollama"
    await provider.aclose()


@pytest.mark.asyncio
@pytest.mark.parametrize("variable", ["HTTP_PROXY", "https_proxy", "ALL_PROXY"])
async def test_the_password_of_a_proxy_is_hidden_as_it_is_sent(
    server: ModelServer, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    monkeypatch.setenv(variable, "http://user:pa%40ss-w0rd@127.0.0.1:1")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    provider = a_provider(server.base_url)
    sent = base64.b64encode(b"user:pa@ss-w0rd").decode()
    server.enqueue(plain(502, f"Proxy-Authorization: Basic {sent}, pa@ss-w0rd".encode(), "text/plain"))
    with pytest.raises(LLMError, match=r"Proxy-Authorization: Basic \[key\], \[key\]$"):
        await provider.complete(an_assignment())
    await provider.aclose()


@pytest.mark.parametrize("address", ["", "http://[", "nonsense://u:p@h", "http://proxy.example:3128", "proxy.example"])
def test_an_address_without_a_password_hides_nothing(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", address)
    assert proxy_secrets() == ()
