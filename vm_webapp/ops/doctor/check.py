"""What the doctor says of one thing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Verdict = Literal["ok", "warn", "fail"]


@dataclass(frozen=True, slots=True)
class Check:
    """A verdict on one thing.

    Attributes:
        name: what was looked at.
        detail: what was found, one line.
        next: the command to type, or what to do, where it is not ok; empty where it is.
    """

    name: str
    verdict: Verdict
    detail: str
    next: str = ""


def ok(name: str, detail: str) -> Check:
    """Nothing to do."""
    return Check(name, "ok", detail)


def warn(name: str, detail: str, next: str) -> Check:
    """Work goes on, but somebody should look."""
    return Check(name, "warn", detail, next)


def fail(name: str, detail: str, next: str) -> Check:
    """Work does not go on, or soon will not."""
    return Check(name, "fail", detail, next)
