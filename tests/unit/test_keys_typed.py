"""What a terminal sends becomes keys and pasted texts, however it is cut into pieces."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vm_webapp.cli.keys_typed import Key, KeyReader


@pytest.mark.parametrize(
    ("sent", "keys"),
    [
        ("ä→a", [Key("text", "ä→a")]),
        ("a\r", [Key("text", "a"), Key("enter")]),
        ("a\nb", [Key("text", "a"), Key("enter"), Key("text", "b")]),
        ("\x7f\b\x17\x15\x04", [Key("erase"), Key("erase"), Key("erase word"), Key("erase all"), Key("end")]),
        ("\x1b[200~one\ra\r\nthree\x1b[201~\r", [Key("paste", "one\na\nthree"), Key("enter")]),
        ("\x1b[200~\x1b[31mred\x00\tx\x1b[201~", [Key("paste", "[31mred\tx")]),
        ("\x1b[A\x1b[1;5C\x1bOPx", [Key("text", "x")]),
        ("\x1b\rx", [Key("new line"), Key("text", "x")]),
        ("\x1ba\x01b", [Key("text", "b")]),
        ("\x1b[200~not ended\r", []),
        ("\x1b", []),
    ],
)
def test_bytes_become_keys(sent: str, keys: list[Key]) -> None:
    assert KeyReader().read(sent.encode()) == keys


@given(st.lists(st.sampled_from(["a", "ü", "\r", "\x1b[A", "\x1b\r", "\x1b[200~x\ra\x1b[201~"])), st.data())
def test_pieces_give_the_same_keys_as_the_whole(sent: list[str], data: st.DataObject) -> None:
    whole = "".join(sent).encode()
    at = data.draw(st.integers(0, len(whole)))
    reader = KeyReader()
    pieces = reader.read(whole[:at]) + reader.read(whole[at:])

    def joined(keys: list[Key]) -> list[tuple[str, str]]:
        return [(key.kind, letter) for key in keys for letter in (key.text if key.kind == "text" else [key.text])]

    assert joined(pieces) == joined(KeyReader().read(whole))


def test_bytes_that_are_not_utf_8_stop_nothing() -> None:
    assert KeyReader().read(b"\xff\xfea\r") == [Key("text", "\ufffd\ufffda"), Key("enter")]
