"""Server-sent events, however the network cuts them."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Iterable
from itertools import pairwise
from typing import TypeVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vm_webapp.sse import EventReader, ServerEvent

Found = TypeVar("Found")

# Every field, every end of a line, a comment, a character of three bytes, and fields that the standard says to ignore.
EVERYTHING = (
    "\ufeffid: 1\revent: first\rdata: “one”\rdata\rdata:  three\r\r"
    ": a comment\r\nid:2\r\nretry: 2500\r\ndata: a:b\r\n\r\n"
    "event: nothing\nid\nid: \0\n\nretry: soon\nunknown: x\ndatax: y\ndata:\n\n"
).encode()
EVENTS = [
    ServerEvent("first", "“one”\n\n three", "1"),
    ServerEvent("message", "a:b", "2"),
    ServerEvent("message", "", ""),
]


async def event_data(chunks: AsyncIterator[bytes]) -> AsyncIterator[str]:
    """Yield the data of each event."""
    async for event in EventReader().read(chunks):
        yield event.data


async def arriving(chunks: Iterable[bytes]) -> AsyncIterator[bytes]:
    for chunk in chunks:
        yield chunk


async def collect(found: AsyncIterator[Found]) -> list[Found]:
    return [each async for each in found]


def read(*chunks: bytes) -> list[str]:
    return asyncio.run(collect(event_data(arriving(chunks))))


def events(*chunks: bytes) -> list[ServerEvent]:
    return asyncio.run(collect(EventReader().read(arriving(chunks))))


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


@pytest.mark.parametrize("ending", [b"\n", b"\r\n", b"\r"])
async def test_an_event_is_passed_on_before_the_next_one_comes(ending: bytes) -> None:
    held_back = asyncio.Event()

    async def slowly() -> AsyncIterator[bytes]:
        yield b"data: first" + ending + ending
        await held_back.wait()

    found = event_data(slowly())
    async with asyncio.timeout(5):
        assert await anext(found) == "first"
        held_back.set()
        assert [data async for data in found] == []


@pytest.mark.parametrize("place", range(len(EVERYTHING) + 1))
def test_every_field_is_read_wherever_the_stream_is_cut_in_two(place: int) -> None:
    assert events(EVERYTHING[:place], b"", EVERYTHING[place:]) == EVENTS


@given(places=st.lists(st.integers(0, len(EVERYTHING)), max_size=30))
def test_every_field_is_read_wherever_the_stream_is_cut(places: list[int]) -> None:
    assert events(*cut(EVERYTHING, places)) == EVENTS


@given(
    datas=st.lists(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\r\n")), max_size=5),
    endings=st.lists(st.sampled_from(["\n", "\r\n", "\r"]), min_size=1),
    places=st.lists(st.integers(0, 10_000), max_size=12),
)
def test_the_ends_of_lines_may_be_of_every_kind_in_one_stream(
    datas: list[str], endings: list[str], places: list[int]
) -> None:
    lines = [line for number, data in enumerate(datas) for line in (f"id: {number}", f"data: {data}", "")]
    # An LF that follows a CR belongs to it, so an empty line must not end with one there.
    ends = ["\n" if not line else endings[number % len(endings)] for number, line in enumerate(lines)]
    ends = ["\r\n" if end == "\r" and lines[number + 1] == "" else end for number, end in enumerate(ends)]
    stream = "".join(line + end for line, end in zip(lines, ends, strict=True)).encode()
    assert events(*cut(stream, places)) == [
        ServerEvent("message", data, str(number)) for number, data in enumerate(datas)
    ]


@pytest.mark.parametrize(
    ("stream", "data"),
    [
        (b"data\n\ndata\ndata\n\ndata:", ["", "\n"]),
        (b"data:test\n\ndata: test\n\n", ["test", "test"]),
        (b"data: YHOO\ndata: +2\ndata: 10\n\n", ["YHOO\n+2\n10"]),
        (b": test stream\n\ndata: first event\nid: 1\n\ndata:second event\nid\n\n", ["first event", "second event"]),
    ],
)
def test_the_examples_of_the_standard_are_read_as_it_says(stream: bytes, data: list[str]) -> None:
    assert [event.data for event in events(stream)] == data


@pytest.mark.parametrize("inside", [b"\xef\xbb\xbf\xef\xbb\xbfdata: x\n\n", b"\n\xef\xbb\xbfdata: x\n\n"])
def test_a_byte_order_mark_is_ignored_only_at_the_start(inside: bytes) -> None:
    assert events(inside) == []
    assert read(*(bytes([byte]) for byte in b"\xef\xbb\xbfdata: x\n\n")) == ["x"]


@pytest.mark.parametrize(
    ("stream", "last_id", "seconds"),
    [
        (b"id: 8\n\n", "8", None),
        (b"id: 8\ndata: x\n\nid: 9\n", "8", None),
        (b"id: 8\ndata: x\n", "8", None),
        (b"id: 8\ndata: x\n\nid\n\n", "", None),
        (b"retry: 1500\nretry: 1,5\nretry: \nretry: -1\n", "7", 1.5),
        (b"retry: " + b"9" * 5000 + b"\n\n", "7", None),
        (b"", "7", None),
    ],
)
async def test_last_id_is_that_of_the_last_complete_event(stream: bytes, last_id: str, seconds: float | None) -> None:
    reader = EventReader("7")
    await collect(reader.read(arriving([stream])))
    assert (reader.last_id, reader.retry_seconds) == (last_id, seconds)


async def test_last_id_advances_with_each_event_that_is_yielded() -> None:
    reader = EventReader()
    found = reader.read(arriving([b"id: 1\ndata: x\n\nid: 2\ndata: y\n\n"]))
    assert ((await anext(found)).data, reader.last_id) == ("x", "1")
    assert ((await anext(found)).data, reader.last_id) == ("y", "2")


def test_a_long_line_in_many_pieces_is_read_in_a_time_that_grows_with_its_length() -> None:
    piece = b"x" * 1000
    began = time.perf_counter()
    (data,) = read(b"data: ", *([piece] * 20_000), b"\n\n")
    assert len(data) == 20_000_000
    assert time.perf_counter() - began < 20  # to copy what there is with each piece took a minute
