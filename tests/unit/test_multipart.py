"""Forms as browsers send them with ``multipart/form-data``."""

from __future__ import annotations

import pytest

from api.ui.multipart import parse_multipart

TYPE = "multipart/form-data; boundary=----WebKitFormBoundaryAbC123"
LINE = "------WebKitFormBoundaryAbC123"
FILE = '; filename="x.txt"'
PLAIN = "Content-Type: text/plain; charset=utf-8\r\n"
ENCODED = "Content-Transfer-Encoding: base64\r\n"


def part(name: str, value: str, *, further: str = "", headers: str = "") -> str:
    """Return a field as Chromium writes it."""
    return f'{LINE}\r\nContent-Disposition: form-data; name="{name}"{further}\r\n{headers}\r\n{value}\r\n'


@pytest.mark.parametrize(
    "value", ["", "a", "a\r\n\r\nb\r\n", "--", "\r\n--", f"x{LINE}", "хлеб 🥐", '"; name="b"', "\0"]
)
def test_a_value_arrives_as_it_was_typed(value: str) -> None:
    body = f"{part('once', 'x')}{part('content', value)}{LINE}--\r\n"
    assert parse_multipart(body.encode(), TYPE, most=2) == [("once", "x"), ("content", value)]


def test_a_form_without_fields_has_none() -> None:
    assert parse_multipart(f"{LINE}--".encode(), TYPE, most=2) == []


@pytest.mark.parametrize(
    "type_",
    [
        'multipart/form-data; boundary="----WebKitFormBoundaryAbC123"',
        f"{TYPE}; charset=utf-8",
        TYPE.replace("b", "B", 1),
    ],
)
def test_a_boundary_may_be_quoted_and_a_parameter_may_follow(type_: str) -> None:
    body = f"{part('a', 'b', headers=PLAIN)}{LINE}--\r\n"
    assert parse_multipart(body.encode(), type_, most=2) == [("a", "b")]


@pytest.mark.parametrize(
    "body",
    [
        "",
        LINE,
        f"{LINE}\r\n",
        part("a", "b"),
        f"{part('a', 'b')}{LINE}",
        f"{part('a', 'b')}{LINE}--\r\nmore",
        f"before\r\n{part('a', 'b')}{LINE}--",
        f"{part('a', 'b', further=FILE)}{LINE}--",
        f"{part('a', 'b', headers=ENCODED)}{LINE}--",
        f"{LINE}\r\n\r\nno name\r\n{LINE}--",
        f"{LINE}x{part('a', 'b')}{LINE}--",
        f"{part('a', 'b') * 3}{LINE}--",
        f"{part('a', 'b')}{LINE}--".encode("utf-16").decode("latin-1"),
    ],
)
def test_what_is_no_form_is_refused(body: str) -> None:
    with pytest.raises(ValueError, match=r"boundary|no field"):
        parse_multipart(body.encode("latin-1"), TYPE, most=2)


def test_text_that_is_not_utf_8_is_refused() -> None:
    with pytest.raises(ValueError, match="utf-8"):
        parse_multipart(f"{part('a', 'é')}{LINE}--".encode("latin-1"), TYPE, most=2)


@pytest.mark.parametrize("boundary", ["", "=", "=é", '="a', "=" + "a" * 71])
def test_a_boundary_that_is_none_is_refused(boundary: str) -> None:
    with pytest.raises(ValueError, match="names no boundary"):
        parse_multipart(b"--a--", f"multipart/form-data; boundary{boundary}", most=2)
