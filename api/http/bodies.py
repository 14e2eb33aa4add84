"""Parses JSON request bodies strictly and records the place of everything that is wrong with them."""

from __future__ import annotations

import codecs
import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from vm_webapp.text import UNSTORABLE, is_storable

MAX_DEPTH = 32
TOO_DEEP = f"it is nested more than {MAX_DEPTH} deep"
Place = tuple[int | str, ...]


class MalformedDocument(ValueError):
    """The bytes are not a JSON document."""


class _Object(dict[str, Any]):
    """An object that records which of its keys occur more than once."""

    def __init__(self, pairs: list[tuple[str, Any]]) -> None:
        super().__init__(pairs)
        times = Counter(key for key, _ in pairs) if len(self) < len(pairs) else {}
        self.repeated = [key for key, given in times.items() if given > 1]


def _refuse_constant(name: str) -> Any:
    raise ValueError(name)


# json.loads() would make one for each document.
_DECODER = json.JSONDecoder(object_pairs_hook=_Object, parse_constant=_refuse_constant)


@dataclass(frozen=True, slots=True)
class Document:
    """A parsed document.

    Attributes:
        value: its content.
        complaints: errors that no model would find, each with its place: text that cannot be stored, repeated keys. For
            a key that cannot be stored the place is that of its object.
    """

    value: Any
    complaints: tuple[tuple[Place, str], ...]


def parse_document(raw: bytes) -> Document:
    """Parse a document.

    Raises:
        MalformedDocument: it is not UTF-8, not JSON by RFC 8259 (so neither NaN nor Infinity), or nested too deeply.
    """
    if (encoding := _other_encoding(raw)) is not None:
        raise MalformedDocument(f"{encoding}; send UTF-8 without a byte-order mark")
    try:
        value = _DECODER.decode(raw.decode())
    except UnicodeDecodeError:
        raise MalformedDocument("it is not UTF-8") from None
    except json.JSONDecodeError as error:
        raise MalformedDocument(f"{error.msg} in line {error.lineno}, column {error.colno}") from None
    except RecursionError:
        raise MalformedDocument(TOO_DEEP) from None
    except ValueError:  # NaN or Infinity, or an integer of more digits than Python converts (4,300 by default)
        raise MalformedDocument("it holds a number that is none or too long") from None
    return Document(value, tuple(_complaints(value)))


def _other_encoding(raw: bytes) -> str | None:
    """Return what the first bytes say about the encoding if that is not UTF-8 as it should be, else None."""
    if raw.startswith(codecs.BOM_UTF8):
        return "it begins with a byte-order mark"
    # A document begins with two ASCII characters, or is one digit: a NUL among them is half of a wider character.
    if raw.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) or b"\0" in raw[:2]:
        return "it is UTF-16 or UTF-32"
    return None


def pointer_of(place: Place) -> str:
    """Return a place as a JSON pointer (RFC 6901)."""
    return "".join(f"/{str(part).replace('~', '~0').replace('/', '~1')}" for part in place)


def _complaints(document: Any) -> Iterator[tuple[Place, str]]:
    for place, value in _walk(document):
        if isinstance(value, str) and not is_storable(value):
            yield place, UNSTORABLE
        elif isinstance(value, _Object):
            # Of a repeated key most parsers silently keep the last value; the caller may have meant another.
            if not all(map(is_storable, value)):
                yield place, f"a key {UNSTORABLE}"
            for key in value.repeated:
                yield (*place, key), "given more than once"


def _walk(document: Any) -> Iterator[tuple[Place, Any]]:
    """Yield every value with its place."""
    # Not recursive: the caller decides how deeply the document is nested.
    waiting: list[tuple[Place, Any]] = [((), document)]
    while waiting:
        place, value = waiting.pop()
        if len(place) > MAX_DEPTH:
            raise MalformedDocument(TOO_DEEP)
        yield place, value
        if isinstance(value, dict):
            waiting += [((*place, key), each) for key, each in value.items()]
        elif isinstance(value, list):
            waiting += [((*place, index), each) for index, each in enumerate(value)]
