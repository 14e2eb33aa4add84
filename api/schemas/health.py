"""Models of the probes."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from api.operations.models import Output


class LiveOut(Output):
    """The process responds."""

    status: Literal["live"] = "live"


class ReadyOut(Output):
    """Whether work can progress; ``reasons`` only where it cannot, ``build`` only for those who may see it."""

    status: Literal["ready", "not_ready"]
    # Omitted rather than null, so that a response without credentials does not even name what it hides.
    build: str | None = Field(default=None, exclude_if=lambda build: build is None)
    dependencies: dict[str, dict[str, Any]]
    reasons: list[str] | None = Field(default=None, exclude_if=lambda reasons: reasons is None)
