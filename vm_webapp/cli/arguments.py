"""Converters for command-line values; each raises ``ArgumentTypeError`` with a message for a wrong value."""

from __future__ import annotations

import argparse
import re
from datetime import UTC, datetime, timedelta
from urllib.parse import urlsplit

from vm_webapp.durations import parse_duration
from vm_webapp.service_ids import parse_service_id


def words(text: str) -> str:
    """Return the text, which must be UTF-8."""
    # Python decodes other bytes in sys.argv to halves of surrogate pairs, which neither JSON nor PostgreSQL accepts.
    try:
        text.encode()
    except UnicodeEncodeError:
        raise argparse.ArgumentTypeError("must be UTF-8") from None
    return text


def filled(text: str) -> str:
    """Return a text that says something."""
    if not text.strip():
        raise argparse.ArgumentTypeError("must not be empty")
    return words(text)


def run_id(text: str) -> str:
    """Return the id of a run, in the form in which the API shows it."""
    from uuid import UUID

    try:
        return str(UUID(text))
    except ValueError:
        raise argparse.ArgumentTypeError("must be the id of a run, a UUID") from None


def base_url(text: str) -> str:
    """Return the base URL of an API, without a slash at its end."""
    try:
        parts = urlsplit(words(text))
        named = bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:  # such as a port that is not a number, or a bracket that is not closed
        named = False
    if not text.startswith(("http://", "https://")) or not named:
        raise argparse.ArgumentTypeError("must begin with http:// or https:// and name a host")
    if "@" in parts.netloc:  # the address is shown, in the report of a smoke test for instance
        raise argparse.ArgumentTypeError("must have no user name and no password: set VM_API_TOKEN")
    return text.rstrip("/")


def duration(text: str) -> timedelta:
    """Return a duration, such as 90m or 7d."""
    try:
        return parse_duration(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def moment(text: str) -> datetime:
    """Return a time: a date, a date and time (UTC unless it names another zone), or a length of time before now."""
    try:
        return datetime.now(UTC) - parse_duration(text)
    except ValueError:
        pass
    try:
        found = datetime.fromisoformat(text)
        return found.replace(tzinfo=found.tzinfo or UTC).astimezone(UTC)
    except (ValueError, OverflowError):
        raise argparse.ArgumentTypeError("must be a time such as 2026-11-01 or 2026-11-01T08:00Z, or 7d") from None


def position(text: str) -> int:
    """Return a position in the audit trail."""
    return whole_number(text, 0, 2**63 - 1)


def place(text: str) -> tuple[int, bytes]:
    """Return a position in the audit trail and its hash, written as ``audit verify`` prints them."""
    number, _, digest = text.partition(":")
    if not re.fullmatch("[0-9a-fA-F]{64}", digest):
        raise argparse.ArgumentTypeError("must be a position and its hash: 12:<64 hexadecimal digits>")
    return position(number), bytes.fromhex(digest)


def whole_number(text: str, low: int, high: int) -> int:
    """Return a whole number within limits, both included."""
    # Checked before int(), which would also accept "1_0", " 5" and digits of other scripts.
    if not (text.isascii() and text.isdecimal()) or not low <= int(text) <= high:
        raise argparse.ArgumentTypeError(f"must be a whole number from {low} to {high}")
    return int(text)


def tokens(text: str) -> int:
    """Return a number of tokens."""
    return whole_number(text, 1, 10**15)


def money(text: str) -> str:
    """Return a sum of money as it is written, such as 2.50."""
    if not re.fullmatch(r"[0-9]{1,9}(\.[0-9]{1,9})?", text) or not float(text):
        raise argparse.ArgumentTypeError("must be a sum of money above 0, such as 2.50")
    return text


def wait_seconds(text: str) -> int:
    """Return a waiting time in seconds, up to an hour."""
    return whole_number(text, 0, 3600)


def threads(text: str) -> int:
    """Return a number of a worker's threads, as many as the setting admits."""
    from vm_webapp.settings import MOST_THREADS

    return whole_number(text, 1, MOST_THREADS)


def fewest_workers(text: str) -> int:
    """Return a least number of workers, as the setting admits it."""
    from vm_webapp.settings import MOST_WORKERS

    return whole_number(text, 0, MOST_WORKERS)


def most_workers(text: str) -> int:
    """Return a greatest number of workers, likewise."""
    from vm_webapp.settings import MOST_WORKERS

    return whole_number(text, 1, MOST_WORKERS)


def target_seconds(text: str) -> float:
    """Return for how long work should wait at most, from a second to an hour."""
    if not re.fullmatch(r"[0-9]{1,4}(\.[0-9]{1,3})?", text) or not 1 <= float(text) <= 3600:
        raise argparse.ArgumentTypeError("must be a number of seconds from 1 to 3600")
    return float(text)


def service_id(text: str) -> str:
    """Return the id of a platform's service."""
    try:
        return parse_service_id(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
