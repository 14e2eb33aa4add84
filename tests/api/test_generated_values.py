"""Generated cursors, keys, headers and text: what is right is taken as it is, and all else is refused."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Callable, Coroutine
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote
from uuid import uuid4

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from api.http.cursors import Cursor
from api.http.problems import RequestError
from api.http.request_ids import USABLE
from tests.api.client import NEW_RUN, Api
from tests.support.raw_http import answer_to
from vm_webapp.text import is_storable

PROFILE = settings(
    max_examples=40, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck)
)
# The cases of a family share most of the code that they run. Without chance, more of the same examples find little.
FEW = settings(PROFILE, max_examples=10)
MANY = settings(PROFILE, max_examples=200)
MOMENTS = st.datetimes(datetime(2000, 1, 2), datetime(9000, 12, 30), timezones=st.just(UTC))  # noqa: DTZ001
# As JSON has it: two halves of a surrogate pair that stand together are one character.
ANY_TEXT = st.text(st.characters(codec=None), max_size=60).map(lambda text: str(json.loads(json.dumps(text))))
# Bytes that a header may hold on the wire; a client library would refuse most of them.
HEADER_BYTES = st.binary(max_size=80).map(lambda raw: raw.translate(None, b"\r\n\0"))
KEYS = st.text(st.characters(min_codepoint=32, max_codepoint=126), min_size=1, max_size=255).filter(
    lambda text: text.strip(" \t") == text
)

Wait = Callable[[Coroutine[Any, Any, Any]], Any]


async def in_a_thread(test: Callable[[Wait], None]) -> None:
    """Run hypothesis beside the event loop; the test gets a function that waits for a coroutine on the loop."""
    loop = asyncio.get_running_loop()
    await asyncio.to_thread(test, lambda coroutine: asyncio.run_coroutine_threadsafe(coroutine, loop).result(30))


class TestCursors:
    """A cursor is opaque, and only the text that was sent is one."""

    @PROFILE
    @given(MOMENTS, st.uuids())
    def test_a_cursor_leads_back_to_its_position(self, at: datetime, id: Any) -> None:
        text = Cursor.of((at, id))
        assert text is not None
        assert Cursor.position(text) == (at, id)
        assert text == quote(text, safe="")

    @PROFILE
    @given(MOMENTS, st.uuids(), st.data())
    def test_a_changed_cursor_is_another_one_or_none(self, at: datetime, id: Any, data: st.DataObject) -> None:
        text = Cursor.of((at, id)) or ""
        place = data.draw(st.integers(0, len(text) - 1))
        changed = text[:place] + data.draw(ANY_TEXT) + text[place + data.draw(st.integers(0, 3)) :]
        with contextlib.suppress(RequestError):
            assert Cursor.decode(changed).encode() == changed

    @pytest.mark.parametrize("path", ["/runs", "/brands", "/projects", "/approvals", "/audit", "/sessions"])
    async def test_any_other_text_is_refused(self, refusing: Api, path: str, full: bool) -> None:
        def send_all(wait: Wait) -> None:
            @(MANY if full else FEW)
            @given(ANY_TEXT)
            def send(text: str) -> None:
                written = quote(text.encode("utf-8", "surrogatepass"))
                response = wait(refusing.get(f"{path}?cursor={written}"))
                if path != "/audit" or response.status != 200:  # its cursor is the number of an entry
                    assert response.wrong(422, "invalid_parameter") == {"cursor"}

            send()

        await in_a_thread(send_all)


async def test_any_key_has_one_effect(api: Api) -> None:
    def send_all(wait: Wait) -> None:
        seen: dict[str, str] = {}

        @PROFILE
        @given(KEYS)
        def send(key: str) -> None:
            new = {"name": "a brand"}
            for _ in range(2):
                response = wait(api.post("/brands", new, headers={"Idempotency-Key": key}))
                assert response.status == 201, response.body
                assert seen.setdefault(key, response.json()["id"]) == response.json()["id"]
            assert response.headers["Idempotency-Replayed"] == "true"

        send()
        assert len(set(seen.values())) == len(seen) > 20

    await in_a_thread(send_all)


@pytest.mark.parametrize(
    "name",
    [
        *("X-Request-ID", "Idempotency-Key", "If-Match", "If-None-Match", "Last-Event-ID", "Accept", "Content-Type"),
        *("Authorization", "Cookie", "Content-Encoding", "Accept-Encoding", "Origin", "Sec-Fetch-Site", "Range"),
        *("X-Forwarded-For", "X-HTTP-Method-Override", "Forwarded", "Expect", "Connection", "Upgrade", "TE"),
    ],
)
async def test_no_header_is_an_error_of_the_service(api: Api, name: str, full: bool) -> None:
    brand = (await api.post("/brands", {"name": "a brand"})).json()["id"]
    run = (await api.create_run())["id"]
    body = json.dumps({"name": "another"}).encode()
    requests = [
        ("POST", "/brands", body),
        ("PATCH", f"/brands/{brand}", body),
        ("GET", f"/runs/{run}/events", b""),
        ("GET", f"/runs/{run}/artifacts/topic_map", b""),
    ]

    def send_all(wait: Wait) -> None:
        @(MANY if full else FEW)
        @given(st.sampled_from(requests), HEADER_BYTES)
        def send(request: tuple[str, str, bytes], value: bytes) -> None:
            method, path, body = request
            lines = {b"Host": b"localhost", b"Content-Type": b"application/json", b"Content-Length": b"%d" % len(body)}
            lines |= {name.encode(): value}
            head = b"".join(b"%s: %s\r\n" % line for line in lines.items())
            response = wait(
                answer_to(api.base_url, f"{method} /api/v2{path} HTTP/1.1\r\n".encode() + head + b"\r\n" + body)
            )
            assert response.status < 500, (value, response.text)
            if response.status >= 400:
                problem = json.loads(response.body)
                assert problem["type"].startswith("/problems/")
                assert problem["request_id"] == response.headers["X-Request-ID"]
            if name == "X-Request-ID" and USABLE.fullmatch(value.decode("latin-1")):
                assert response.headers["X-Request-ID"] == value.decode("latin-1")

        send()

    await in_a_thread(send_all)


async def test_any_text_comes_back_as_it_was_sent_or_is_named(api: Api) -> None:
    def send_all(wait: Wait) -> None:
        @PROFILE
        @given(ANY_TEXT, ANY_TEXT)
        def send(name: str, voice: str) -> None:
            # As escapes: half a surrogate pair cannot be sent in UTF-8.
            sent = json.dumps({"name": f"a{name}z", "voice": voice}, ensure_ascii=True)
            response = wait(api.post_raw("/brands", sent))
            wrong = {f"/{field}" for field, text in (("name", name), ("voice", voice)) if not is_storable(text)}
            if wrong:
                assert response.wrong(422, "invalid_input") == wrong
                return
            assert response.status == 201, response.body
            kept = wait(api.get(f"/brands/{response.json()['id']}")).json()
            assert kept["name"] == f"a{name}z"
            assert kept["voice"] in (voice, voice.strip())

        send()

    await in_a_thread(send_all)


async def test_any_text_in_an_address_is_a_name_that_there_is_not(refusing: Api) -> None:
    paths = ("/workflows/{}", "/runs/{}", f"/runs/{uuid4()}/artifacts/{{}}", "/problems/{}", "/docs/{}", "/{}")

    def send_all(wait: Wait) -> None:
        @PROFILE
        @given(st.sampled_from(paths), ANY_TEXT)
        def send(path: str, text: str) -> None:
            written = quote(f"~{text}".encode("utf-8", "surrogatepass"), safe="")
            wait(refusing.get(path.format(written))).problem(404, "not_found")
            query = wait(refusing.get(f"/runs?workflow={written}"))
            if is_storable(text):
                assert query.json()["items"] == []
            else:
                assert query.wrong(422, "invalid_parameter") == {"workflow"}

        send()

    await in_a_thread(send_all)


async def test_a_run_keeps_any_request(api: Api) -> None:
    def send_all(wait: Wait) -> None:
        @settings(PROFILE, max_examples=20)
        @given(ANY_TEXT)
        def send(text: str) -> None:
            response = wait(api.post_raw("/runs", json.dumps(NEW_RUN | {"request": f"a{text}z"})))
            if is_storable(text):
                assert response.json()["request"] == f"a{text}z"
            else:
                assert response.wrong(422, "invalid_input") == {"/request"}

        send()

    await in_a_thread(send_all)
