"""Requests that are sent slowly: their headers and bodies have time limits."""

from __future__ import annotations

import asyncio
import logging

import pytest

from api.http import connections
from tests.api.client import Api, until
from tests.api.raw_requests import BEARER, POST, SECRET, done
from tests.support.raw_http import HEAD, PROBE, RawConnection, raw_connection


class TestSlowSenders:
    """Headers must be complete within the time limit, of which a test waits for a small one."""

    @pytest.fixture(autouse=True)
    def _short(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(connections, "HEADER_SECONDS", 0.3)

    @pytest.mark.parametrize("sent", [b"G", b"\r\n", HEAD, BEARER, POST])
    async def test_headers_that_stay_incomplete_are_refused(
        self, refusing: Api, caplog: pytest.LogCaptureFixture, sent: bytes
    ) -> None:
        caplog.set_level(logging.DEBUG)
        async with raw_connection(refusing.base_url) as connection:
            connection.send(sent)
            (await connection.response()).problem(408, "headers_timeout")
            assert await connection.ended() == b""
        (line,) = done(caplog)
        assert (line["status"], line["kind"], line["address"]) == (408, "slow_headers", "127.0.0.1")
        assert SECRET not in caplog.text

    async def test_bytes_that_trickle_in_do_not_extend_the_time(self, refusing: Api) -> None:
        async with raw_connection(refusing.base_url) as connection:
            trickling = asyncio.create_task(trickle(connection, BEARER * 100))
            (await connection.response()).problem(408, "headers_timeout")
            trickling.cancel()

    async def test_a_connection_that_sends_nothing_is_ended_in_silence(
        self, refusing: Api, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level(logging.DEBUG)
        async with raw_connection(refusing.base_url) as connection:
            assert await connection.ended(seconds=5) == b""
        assert not [record for record in caplog.records if record.name.startswith(("api", "aiohttp"))]

    async def test_the_time_begins_anew_between_requests(self, refusing: Api) -> None:
        async with raw_connection(refusing.base_url) as connection:
            for _ in range(3):
                connection.send(PROBE)
                assert (await connection.response()).status == 200
            connection.send(BEARER)
            (await connection.response()).problem(408, "headers_timeout")

    async def test_a_connection_between_two_requests_stays_open(self, refusing: Api) -> None:
        body = b'{"nothing": 1}'
        request = POST + b"Content-Length: %d\r\n\r\n" % len(body)
        async with raw_connection(refusing.base_url) as used, raw_connection(refusing.base_url) as other:
            used.send(PROBE)
            assert (await used.response()).status == 200
            used.send(request)
            await asyncio.sleep(0.05)
            used.send(body)
            assert (await used.response()).status == 422
            assert await other.ended(seconds=5) == b"", "the time of a connection that sent nothing is over"
            used.send(PROBE)
            assert (await used.response()).status == 200

    async def test_a_request_in_progress_is_finished_first(self, api: Api) -> None:
        run_id = (await api.create_run())["id"]
        async with raw_connection(api.base_url) as connection:
            connection.send(f"GET /api/v2/runs/{run_id}?wait=1 HTTP/1.1\r\nHost: localhost\r\n\r\n".encode() + BEARER)
            await until(lambda: api.services.followers.waiting == 1)
            connection.send(b"x")
            assert (await connection.response()).status == 200
            (await connection.response()).problem(408, "headers_timeout")

    async def test_a_slow_body_has_its_own_limit(self, refusing: Api) -> None:
        async with raw_connection(refusing.base_url) as connection:
            connection.send(POST + b"Content-Length: 14\r\nExpect: 100-continue\r\n\r\n")
            assert (await connection.response()).status == 100
            await trickle(connection, b'{"nothing": 1}', pause=0.05)
            (await connection.response()).problem(422, "invalid_input")


async def trickle(connection: RawConnection, data: bytes, *, pause: float = 0.02) -> None:
    """Send bytes one by one."""
    for byte in data:
        connection.send(bytes([byte]))
        await asyncio.sleep(pause)


async def test_a_body_that_no_operation_reads_does_not_keep_the_connection(
    refusing_managed: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "UNREAD_BODY_SECONDS", 0.3)
    async with raw_connection(refusing_managed.base_url) as connection:
        connection.send(POST + b"Content-Length: 1000\r\n\r\n")
        (await connection.response()).problem(401, "unauthorized")
        trickling = asyncio.create_task(trickle(connection, b"x" * 1000))
        assert await connection.ended(seconds=5) == b""
        trickling.cancel()
