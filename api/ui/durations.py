"""Durations in words: two units at most, as a person says them."""

from __future__ import annotations

UNITS = (("d", 86_400), ("h", 3600), ("min", 60), ("s", 1))


def duration(seconds: float) -> str:
    """Return a duration: ``0.4 s``, ``31 s``, ``4 min 10 s``, ``3 d 4 h``."""
    if seconds < 9.95:
        return f"{max(seconds, 0):.1f} s".replace(".0 ", " ")
    left = round(seconds)
    words: list[str] = []
    for number, (unit, size) in enumerate(UNITS):
        if left >= size and not words:
            words.append(f"{left // size} {unit}")
            rest, below = left % size, UNITS[number + 1 : number + 2]
            words += [f"{rest // each} {name}" for name, each in below if rest >= each]
    return " ".join(words)
