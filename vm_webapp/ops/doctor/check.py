"""The result of one check of the doctor."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Verdict = Literal["ok", "warn", "fail"]


@dataclass(frozen=True, slots=True)
class Check:
    """The result of one check.

    Attributes:
        name: what was checked.
        detail: what was found, in one line.
        next: the command to type, or what to do; empty if the verdict is ``ok``.
    """

    name: str
    verdict: Verdict
    detail: str
    next: str = ""


def ok(name: str, detail: str) -> Check:
    """Return a check that found nothing wrong."""
    return Check(name, "ok", detail)


def warn(name: str, detail: str, next: str) -> Check:
    """Return a check that found a fault which does not stop work."""
    return Check(name, "warn", detail, next)


def fail(name: str, detail: str, next: str) -> Check:
    """Return a check that found a fault which stops work, or soon will."""
    return Check(name, "fail", detail, next)
