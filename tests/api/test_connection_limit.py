"""So many connections as this process has files for, and what becomes of one more."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack

import pytest

from api.http import connections
from api.http.connections import most_connections
from tests.api.client import Api, until
from tests.api.raw_requests import BEARER, CHUNKED, POST
from tests.support.raw_http import HEAD, PROBE, RawConnection, answer_to, raw_connection
from vm_webapp.metrics import HTTP_REQUESTS


class TestTooManyConnections:
    """A process serves so many connections, and probes and scrapes beyond that."""

    MOST = 4

    @pytest.fixture(autouse=True)
    def _few(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("api.server.most_connections", lambda **_: self.MOST)
        monkeypatch.setattr(connections, "SPARE_CONNECTIONS", 2)

    async def test_half_sent_ones_make_room_the_oldest_first(
        self, refusing: Api, caplog: pytest.LogCaptureFixture
    ) -> None:
        async with AsyncExitStack() as opened:
            half = []
            for _ in range(40):
                half.append(await opened.enter_async_context(raw_connection(refusing.base_url)))
                half[-1].send(BEARER)
                assert (await answer_to(refusing.base_url, PROBE)).status == 200
            assert half[-1].is_open
            assert [await each.ended() for each in half[: -self.MOST]] == [b""] * (40 - self.MOST)
        (full,) = [vars(record) for record in caplog.records if record.msg == "connections.full"]
        assert full["most"] == self.MOST

    async def test_idle_ones_make_room_after_half_sent_ones(self, refusing: Api) -> None:
        async with AsyncExitStack() as opened:

            async def served() -> RawConnection:
                connection = await opened.enter_async_context(raw_connection(refusing.base_url))
                connection.send(PROBE)
                assert (await connection.response()).status == 200
                return connection

            oldest, other = await served(), await served()
            half = await opened.enter_async_context(raw_connection(refusing.base_url))
            half.send(BEARER)
            await served()
            await served()
            assert await half.ended() == b""
            assert oldest.is_open
            await served()
            assert await oldest.ended() == b""
            other.send(PROBE)
            assert (await other.response()).status == 200

    @pytest.mark.parametrize(
        "sent",
        [
            pytest.param(POST + b"Content-Length: 100\r\n\r\n", id="a body that is not sent"),
            pytest.param(CHUNKED + b"2\r\n{", id="a chunk that is not sent"),
            pytest.param(BEARER + b"\0\r\n\r\n", id="a client that does not hang up"),
        ],
    )
    async def test_clients_that_keep_connections_waiting_make_room(self, refusing_managed: Api, sent: bytes) -> None:
        async with AsyncExitStack() as opened:
            for _ in range(10 * self.MOST):
                waiting = await opened.enter_async_context(raw_connection(refusing_managed.base_url))
                waiting.send(sent)
                assert (await waiting.response()).status in (400, 401)
                refused = await answer_to(refusing_managed.base_url, HEAD.replace(b"health/live", b"runs") + b"\r\n")
                refused.problem(401, "unauthorized")

    async def test_clients_that_do_not_read_make_room(self, refusing: Api) -> None:
        flood = HEAD.replace(b"health/live", b"openapi.json") + b"\r\n"
        async with AsyncExitStack() as opened:
            for _ in range(4 * self.MOST):
                deaf = await opened.enter_async_context(raw_connection(refusing.base_url, reading=False))
                deaf.send(flood * 300)
            for _ in range(50):  # meanwhile no buffer has room for another response
                await until_served(refusing.base_url)

    async def test_where_all_serve_requests_only_probes_and_scrapes_are_served(self, api: Api) -> None:
        run_id = (await api.create_run())["id"]
        await api.session.close()
        wait = f"GET /api/v2/runs/{run_id}?wait=30 HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()
        async with AsyncExitStack() as opened:
            for _ in range(self.MOST):
                (await opened.enter_async_context(raw_connection(api.base_url))).send(wait)
            await until(lambda: api.services.followers.waiting == self.MOST)
            counted = HTTP_REQUESTS.labels("other", "refused", "503")._value
            before = counted.get()
            for _ in range(10):
                refused = await answer_to(api.base_url, HEAD.replace(b"health/live", b"runs") + b"\r\n")
                refused.problem(503, "too_many_connections")
                assert refused.headers["Retry-After"] == "1"
                assert (await answer_to(api.base_url, PROBE)).status == 200
            # A scrape as well: it tells that clients are refused.
            assert (
                await answer_to(api.base_url, HEAD.replace(b"/api/v2/health/live", b"/metrics") + b"\r\n")
            ).status == 200
            assert counted.get() == before + 10
        await until(lambda: api.services.followers.waiting == 0)
        await until_served(api.base_url)


async def until_served(base_url: str) -> None:
    """Wait until an ordinary request is served."""
    async with asyncio.timeout(5):
        while (await answer_to(base_url, HEAD.replace(b"health/live", b"runs") + b"\r\n")).status != 200:
            await asyncio.sleep(0.01)


@pytest.mark.parametrize(("limit", "most"), [(-1, 1000), (20_000, 1000), (1024, 792), (256, 24), (128, 16), (64, 16)])
def test_fewer_files_mean_fewer_connections(monkeypatch: pytest.MonkeyPatch, limit: int, most: int) -> None:
    monkeypatch.setattr("resource.getrlimit", lambda _: (limit, limit))
    assert most_connections(other_files=8) == most
