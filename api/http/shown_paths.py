"""What the log shows of a request's path, which may hold anything, even a key that was put into the wrong place."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator

LONGEST = 200
HIDDEN = "…"
# An id, or the name of a stage or a workflow. A key or a token that protects anything is longer.
HARMLESS = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}|[a-z0-9_-]{0,12}")


def shown_path(path: str, status: int, route: str | None) -> str:
    """Return a path as the log shows it: whole where it led to something.

    Of another one, only ids, short names and the words of its route are shown; ``…`` stands for each run of others.

    Args:
        path: the path as it was sent.
        status: the status of the response.
        route: the route's path with its ``{fields}``, None if the path has no route.
    """
    if status < 400:
        return path[:LONGEST]
    words = (route or "").split("/")
    return "/".join(_without_repetition(_shown(part, words) for part in path.split("/")))[:LONGEST]


def _shown(part: str, words: Collection[str]) -> str:
    return part if part in words or HARMLESS.fullmatch(part) else HIDDEN


def _without_repetition(parts: Iterator[str]) -> Iterator[str]:
    before = ""
    for part in parts:
        if not part == before == HIDDEN:
            yield part
        before = part
