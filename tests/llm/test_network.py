"""Calls over real sockets: through proxies, with TLS, with much to send and to receive, and to nobody."""

from __future__ import annotations

import asyncio
import re
import ssl

import pytest

from tests.fakes.behaviours import completion
from tests.fakes.http_proxy import a_proxy
from tests.fakes.model_server import ModelServer
from tests.fakes.stranger import speaking
from tests.llm.assignments import an_assignment
from tests.llm.providers import a_provider
from tests.support.forms import only_in_full
from vm_webapp.llm import connections
from vm_webapp.llm.errors import LLMConnectionError, LLMError, LLMNotFound, LLMUnauthorized

WITH_PASSWORD = "Proxy-Authorization: Basic dTpw"  # u:p


class TestThroughAProxy:
    async def test_a_call_without_tls_is_forwarded(self, server: ModelServer, monkeypatch: pytest.MonkeyPatch) -> None:
        async with a_proxy() as proxy:
            monkeypatch.setenv("HTTP_PROXY", f"http://u:p@127.0.0.1:{proxy.port}")
            await self.call_twice(server)
            assert [head.split("\r\n")[0] for head in proxy.heads] == [
                f"POST {server.base_url}/chat/completions HTTP/1.1"
            ]
            assert WITH_PASSWORD in proxy.heads[0]

    @pytest.mark.parametrize("scheme", ["http", "https"])
    async def test_a_call_with_tls_is_tunneled(
        self, certificate: ssl.SSLContext, monkeypatch: pytest.MonkeyPatch, scheme: str
    ) -> None:
        with ModelServer(tls=certificate) as server:
            async with a_proxy(certificate if scheme == "https" else None) as proxy:
                monkeypatch.setenv("HTTPS_PROXY", f"{scheme}://u:p@127.0.0.1:{proxy.port}")
                await self.call_twice(server)
                assert [head.split("\r\n")[0] for head in proxy.heads] == [
                    f"CONNECT {server.base_url.split('/')[2]} HTTP/1.1"
                ]
                assert WITH_PASSWORD in proxy.heads[0]
                assert "sk-secret" not in proxy.heads[0]

    async def test_name_and_password_in_the_servers_address_take_the_place_of_the_key(
        self, server: ModelServer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        async with a_proxy() as proxy:
            monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{proxy.port}")
            provider = a_provider(server.base_url.replace("://", "://u:p@"))
            with pytest.raises(LLMUnauthorized):  # the server wants a key
                await provider.complete(an_assignment())
            await provider.aclose()
            assert "\r\nAuthorization: Basic dTpw\r\n" in proxy.heads[0]
            assert "u:p" not in proxy.heads[0]

    async def test_a_proxy_that_refuses_fails_the_call(
        self, certificate: ssl.SSLContext, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        async with a_proxy() as proxy:
            proxy.refuses = "407 Proxy Authentication Required"
            monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{proxy.port}")
            provider = a_provider("https://127.0.0.1:1/v1")
            with pytest.raises(LLMConnectionError, match="407 Proxy Authentication Required"):
                await provider.complete(an_assignment())
            await provider.aclose()

    async def call_twice(self, server: ModelServer) -> None:
        """Both calls take the same connection."""
        provider, before = a_provider(server.base_url), server.accepted
        for text in ("# One", "# Two"):
            server.enqueue(completion(text))
            assert (await provider.complete(an_assignment())).text == text
        assert server.accepted == before + 1
        await provider.aclose()


class TestACallWithoutAResponse:
    async def test_a_refused_connection_has_the_systems_words(self) -> None:
        assert await self.error_of("http://127.0.0.1:1/v1") == "no connection to 127.0.0.1: Connection refused"

    async def test_a_name_that_is_unknown(self) -> None:
        error = await self.error_of("http://unknown.invalid/v1")
        assert re.fullmatch(r"no connection to unknown\.invalid: [A-Z][A-Za-z ]+", error)

    async def test_a_certificate_that_nobody_vouches_for(
        self, certificate: ssl.SSLContext, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.delenv("SSL_CERT_FILE")
        with ModelServer(tls=certificate) as server:
            error = await self.error_of(server.base_url)
            await asyncio.to_thread(server.wait_until, lambda s: s.connected == 0)
        assert error.startswith("no connection to 127.0.0.1: ")
        assert "certificate verify failed" in error

    async def test_a_server_that_never_answers_the_handshake(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(connections, "CONNECT_SECONDS", 0.05)
        closed = asyncio.Event()

        async def stay_silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.read()
            writer.close()
            closed.set()

        async with speaking(stay_silent) as url:
            error = await self.error_of(f"{url.replace('http', 'https')}/v1")
            assert error == "no connection to 127.0.0.1: none within 0.05 s"
            async with asyncio.timeout(5):
                await closed.wait()

    async def test_an_address_of_another_kind_is_refused_without_its_password(self) -> None:
        provider = a_provider("ftp://u:secret@127.0.0.1/v1")
        with pytest.raises(LLMNotFound) as raised:
            await provider.complete(an_assignment())
        assert str(raised.value) == (
            "KIMI_BASE_URL cannot be called: the address begins with neither http:// nor https://"
        )
        await provider.aclose()

    @pytest.mark.parametrize(
        ("sent", "words"),
        [
            (b"", "the server closed it without a response"),
            (b"HTTP/1.1 200 OK\r\nContent-Len", "the server closed it without a response"),
            (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\ndata: ", "the response broke off"),
            (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n6\r\ndata: ", "the response broke off"),
            (b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 4\r\n\r\nabcd", "the response broke off"),
            (b"SSH-2.0-OpenSSH_9.2\r\n", "no valid response: Bad status line"),
        ],
    )
    async def test_a_response_that_breaks_off_or_is_none(self, sent: bytes, words: str) -> None:
        async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(sent)
            writer.close()

        async with speaking(answer) as url:
            error = await self.error_of(f"{url}/v1")
        assert error.startswith(f"the connection to 127.0.0.1 broke: {words}")

    async def error_of(self, base_url: str) -> str:
        provider = a_provider(base_url)
        with pytest.raises(LLMConnectionError) as raised:
            await provider.complete(an_assignment())
        await provider.aclose()
        return str(raised.value)


class TestMuchAtOnce:
    @pytest.mark.parametrize(
        ("over_tls", "words"),
        [(False, 75_000), (True, 75_000), only_in_full(False, 600_000), only_in_full(True, 600_000)],
    )
    async def test_a_long_prompt_and_a_long_text_arrive_whole(
        self, certificate: ssl.SSLContext, over_tls: bool, words: int
    ) -> None:
        prompt, text = "a long prompt" * words, "# T\n\n" + "word " * words + "end"
        with ModelServer(tls=certificate if over_tls else None) as server:
            provider = a_provider(server.base_url)
            server.enqueue(completion(text))
            assert (await provider.complete(an_assignment(user=prompt))).text == text
            assert prompt in server.requests[0].body["messages"][-1]["content"]
            await provider.aclose()

    async def test_a_server_that_stops_reading_ends_the_call(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(connections, "SEND_SECONDS", 0.05)
        done = asyncio.Event()

        async def stop_reading(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await done.wait()
            writer.close()

        async with speaking(stop_reading) as url:
            provider = a_provider(f"{url}/v1")
            with pytest.raises(LLMConnectionError, match=r"broke: it does not take the request within 0\.05 s"):
                await provider.complete(an_assignment(user="ab" * 8_000_000))
            done.set()
            await provider.aclose()

    async def test_a_server_that_refuses_before_it_has_read_the_request(self) -> None:
        done = asyncio.Event()

        async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.1 413 Content Too Large\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
            await done.wait()
            writer.close()

        async with speaking(refuse) as url:
            provider = a_provider(f"{url}/v1")
            async with asyncio.timeout(5):
                with pytest.raises(LLMError, match="HTTP 413"):
                    await provider.complete(an_assignment(user="ab" * 8_000_000))
            done.set()
            await provider.aclose()
