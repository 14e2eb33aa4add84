"""Models of model providers."""

from __future__ import annotations

from api.operations.models import Input, Output


class ProviderPath(Input):
    """A provider."""

    name: str


class ProviderOut(Output):
    """A provider that may be called; ``resumed`` is true if it was paused."""

    name: str
    resumed: bool
