"""Parses lengths of time as people write them: 90d, 12h, 30m, 45s."""

from __future__ import annotations

import re
from datetime import timedelta

SPELLING = "a length of time such as 90d, 12h, 30m or 45s"
UNITS = {"d": "days", "h": "hours", "m": "minutes", "s": "seconds"}


def parse_duration(text: str) -> timedelta:
    """Return the length of time.

    Raises:
        ValueError: the text is not a length of time, or it is zero or longer than a century.
    """
    # [0-9], not \d: that matches the digits of every script. At most nine, or timedelta overflows.
    found = re.fullmatch(r"([0-9]{1,9})([dhms])", text)
    if found is None:
        raise ValueError(f"must be {SPELLING}")
    length = timedelta(**{UNITS[found[2]]: int(found[1])})
    if not timedelta(0) < length <= timedelta(days=36_525):
        raise ValueError(f"must be {SPELLING}, more than nothing and at most a century")
    return length
