"""Markers: values that stand for secrets, and the search for them in whatever the product wrote."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterable, Mapping
from secrets import token_hex
from urllib.parse import quote

SECRET = re.compile(rb"vm[ks]_[A-Za-z0-9_-]{40,}")  # a key, or the secret of a session


class Markers:
    """Planted values by name, each of which occurs nowhere else."""

    def __init__(self) -> None:
        self._planted: dict[str, str] = {}

    def plant(self, name: str) -> str:
        """Return a new value to plant, which is printable, fits into a URL and does not look like a key."""
        return self.add(name, f"{re.sub('[^a-z]', '', name.lower())[:12]}{token_hex(12)}")

    def add(self, name: str, value: str) -> str:
        """Look for a secret that the product has made itself, too."""
        self._planted[name] = value
        return value

    def found_in(self, traces: Mapping[str, bytes], *, but_not: Iterable[str] = ()) -> list[str]:
        """Return where which of them was found, in plain text or in the encodings of HTTP and databases.

        Args:
            traces: what was written, by the name of the place.
            but_not: names of markers that may be there.
        """
        names = set(self._planted).difference(but_not)
        forms = {name: _forms(self._planted[name]) for name in sorted(names)}
        return [
            f"{name} in {place}: …{_around(content, form)}…"
            for place, content in traces.items()
            for name, each in forms.items()
            for form in each
            if form in content
        ]


def keys_in(traces: Mapping[str, bytes]) -> list[str]:
    """Return where something was found that looks like a key, or like the secret of a session."""
    return [f"a key in {place}" for place, content in traces.items() if SECRET.search(content)]


def _forms(value: str) -> set[bytes]:
    plain = value.encode()
    encoded = {plain, quote(value, safe="").encode(), plain.hex().encode()}
    for before in range(3):
        # In base64, such as that of Basic authentication, the place of a text within its three bytes counts.
        whole = base64.b64encode(b"." * before + plain + b".." * 2)
        encoded.add(whole[4 if before else 0 : 4 * (len(plain) // 3)])
    return encoded


def _around(content: bytes, form: bytes) -> str:
    at = content.index(form)
    return content[max(0, at - 80) : at + len(form) + 40].decode(errors="replace").replace("\n", "⏎")
