"""Values on the command line: what they may be, and what is said when they are not."""

from __future__ import annotations

import argparse
from datetime import timedelta
from urllib.parse import urlsplit

from vm_webapp.durations import parse_duration


def words(text: str) -> str:
    """Any text, as long as it is UTF-8: Python lets other bytes through as halves of surrogate pairs."""
    try:
        text.encode()
    except UnicodeEncodeError:
        raise argparse.ArgumentTypeError("must be UTF-8") from None
    return text


def base_url(text: str) -> str:
    """The address of an API."""
    try:
        parts = urlsplit(words(text))
        named = bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:  # such as a port that is no number, or a bracket that is not closed
        named = False
    if not text.startswith(("http://", "https://")) or not named:
        raise argparse.ArgumentTypeError("must begin with http:// or https:// and name a host")
    return text.rstrip("/")


def duration(text: str) -> timedelta:
    """A length of time."""
    try:
        return parse_duration(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def whole_number(text: str, low: int, high: int) -> int:
    """A whole number within limits, both included."""
    if not (text.isascii() and text.isdecimal()) or not low <= int(text) <= high:
        raise argparse.ArgumentTypeError(f"must be a whole number from {low} to {high}")
    return int(text)


def wait_seconds(text: str) -> int:
    """How long to wait: up to an hour."""
    return whole_number(text, 0, 3600)
