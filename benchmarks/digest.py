"""What identifies the figures that a plot shows, so that a plot of others is found out without drawing it anew."""

from __future__ import annotations

import hashlib
import json

from benchmarks.results import Measured


def digest(measured: Measured) -> str:
    """Return the SHA-256 of the figures, in hexadecimal digits."""
    return hashlib.sha256(json.dumps(measured.contenders, sort_keys=True).encode()).hexdigest()
