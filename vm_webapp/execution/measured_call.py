"""Measures a model call: how long it takes, when its first token comes, and how it ends."""

from __future__ import annotations

import time
from concurrent.futures import CancelledError
from types import TracebackType

from vm_webapp.errors import VMError
from vm_webapp.metrics import observe_call
from vm_webapp.runs.lifecycle import Claim


class MeasuredCall:
    """The block waits for the call. A stage that needs no model is not measured.

    Args:
        claim: the attempt that calls.
        model: the model that it asks for, None where the provider names none.
    """

    def __init__(self, claim: Claim, model: str | None) -> None:
        self._claim = claim
        self._model = model
        self._began = time.monotonic()
        self._first: float | None = None

    def note_piece(self) -> None:
        """Note that a piece has come, be it text or reasoning."""
        if self._first is None:
            self._first = time.monotonic()

    def __enter__(self) -> None:
        """Begin to wait."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Record the call."""
        if self._claim.provider is None:
            return
        observe_call(
            self._claim.provider,
            self._model,
            self._claim.workflow.name,
            self._claim.key,
            outcome=_outcome(error),
            seconds=time.monotonic() - self._began,
            first_after=None if self._first is None else self._first - self._began,
        )


def _outcome(error: BaseException | None) -> str:
    if error is None:
        return "ok"
    if isinstance(error, CancelledError):
        return "abandoned"
    return error.code if isinstance(error, VMError) else "internal_error"
