"""A model's text while it is written: told to whoever watches, at most ten times a second, and stored nowhere."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

SHORTEST_GAP_SECONDS = 0.1


@dataclass(frozen=True, slots=True)
class StageProgress:
    """A further piece of a document that is being written.

    Attributes:
        stage: the stage's key.
        attempt: which attempt writes it: a new one begins anew.
        offset: characters that came before this piece.
        text: the piece.
    """

    stage: str
    attempt: int
    offset: int
    text: str


class ProgressReporter:
    """Collects pieces and passes them on in larger ones.

    Args:
        stage: the stage's key.
        attempt: the attempt's number.
        report: called with each larger piece; must not block.
        clock: the monotonic time.
    """

    def __init__(
        self,
        stage: str,
        attempt: int,
        report: Callable[[StageProgress], object],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._stage = stage
        self._attempt = attempt
        self._report = report
        self._clock = clock
        self._offset = 0
        self._waiting: list[str] = []
        self._next = 0.0

    def add(self, text: str) -> None:
        """Take a piece; pass on what has been collected unless that was done a moment ago."""
        self._waiting.append(text)
        if self._clock() >= self._next:
            self.flush()

    def flush(self) -> None:
        """Pass on what has been collected."""
        text = "".join(self._waiting)
        self._waiting.clear()
        if text:
            self._next = self._clock() + SHORTEST_GAP_SECONDS
            self._report(StageProgress(self._stage, self._attempt, self._offset, text))
            self._offset += len(text)
