"""Server-sent events, however the network cuts them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterable
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vm_webapp.llm.sse import event_data


def read(*chunks: bytes) -> list[str]:
    async def arriving() -> AsyncIterator[bytes]:
        for chunk in chunks:
            yield chunk

    async def collect() -> list[str]:
        return [data async for data in event_data(arriving())]

    return asyncio.run(collect())


def cut(stream: bytes, places: Iterable[int]) -> list[bytes]:
    at = [0, *sorted(place % (len(stream) + 1) for place in places), len(stream)]
    return [stream[start:end] for start, end in pairwise(at)]


@pytest.mark.parametrize(
    ("stream", "expected"),
    [
        (b"", []),
        (b"data: one\n\ndata: two\n\n", ["one", "two"]),
        (b"data: one\r\n\r\ndata: two\r\n\r\n", ["one", "two"]),
        (b"data:no space\n\n", ["no space"]),
        (b"data:  two spaces\n\n", [" two spaces"]),
        (b"data: two\ndata: lines\n\n", ["two\nlines"]),
        (b": a comment\n\nevent: ping\nid: 7\nretry: 10\ndata: x\n\n", ["x"]),
        (b"event: nothing\n\n\n\n", []),
        (b"data: not ended by an empty line\n", ["not ended by an empty line"]),
        (b"data: one\n\ndata: broken o", ["one"]),
        (b"data: \xff\n\n", ["\ufffd"]),
        ("data: a\u2028b\u2029c\x85d\x0be\n\n".encode(), ["a\u2028b\u2029c\x85d\x0be"]),
    ],
)
def test_the_data_of_each_event_is_read(stream: bytes, expected: list[str]) -> None:
    assert read(stream) == expected


@given(
    texts=st.lists(st.text(), min_size=1, max_size=5),
    ending=st.sampled_from(["\n", "\r\n"]),
    places=st.lists(st.integers(0, 10_000), max_size=12),
)
def test_it_does_not_matter_where_the_chunks_are_cut(texts: list[str], ending: str, places: list[int]) -> None:
    events = [json.dumps({"text": text}, ensure_ascii=False) for text in texts]
    stream = "".join(f": keep-alive{ending}{ending}data: {event}{ending}{ending}" for event in events)
    found = read(*cut(stream.encode("utf-8", "replace"), places))
    assert [json.loads(data)["text"] for data in found] == texts


def test_each_byte_may_come_alone() -> None:
    stream = "data: “é”\r\n\r\ndata: [DONE]\r\n\r\n".encode()
    assert read(*(bytes([byte]) for byte in stream)) == ["“é”", "[DONE]"]


async def test_an_event_is_passed_on_before_the_next_one_comes() -> None:
    held_back = asyncio.Event()

    async def arriving() -> AsyncIterator[bytes]:
        yield b"data: first\n\n"
        await held_back.wait()

    events = event_data(arriving())
    async with asyncio.timeout(5):
        assert await anext(events) == "first"
        held_back.set()
        assert [data async for data in events] == []
