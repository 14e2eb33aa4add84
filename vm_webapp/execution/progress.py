"""A model's text while it is written: published to the clients that follow the run, and stored nowhere."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

SHORTEST_GAP_SECONDS = 0.1
UNHEARD_GAP_SECONDS = 1.0  # a client that begins to follow the run waits for text at most this long


@dataclass(frozen=True, slots=True)
class StageProgress:
    """A further piece of an artifact that is being written.

    Attributes:
        stage: the stage's key.
        attempt: the number of the attempt that writes it; each attempt starts at offset 0.
        offset: characters that came before this piece.
        text: the piece.
    """

    stage: str
    attempt: int
    offset: int
    text: str


class Listeners(NamedTuple):
    """Who has heard a piece.

    Attributes:
        processes: how many processes have.
        words: one of each process that has begun to listen; a new one whenever it begins again.
    """

    processes: int
    words: frozenset[bytes]


class ProgressReporter:
    """Collects pieces and reports them in larger ones, at most ten times a second, once a second if nobody listens.

    Who begins to listen gets all that was written before, in one piece at offset 0. A text that is complete within a
    tenth of a second is not reported: its artifact comes as soon.

    Args:
        stage: the stage's key.
        attempt: the attempt's number.
        report: called with each larger piece; must not block; returns who heard the piece before, None if unknown.
        clock: returns the monotonic time in seconds.
    """

    def __init__(
        self,
        stage: str,
        attempt: int,
        report: Callable[[StageProgress], Listeners | None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._stage = stage
        self._attempt = attempt
        self._report = report
        self._clock = clock
        self._reported: list[str] = []
        self._offset = 0
        self._waiting: list[str] = []
        self._listeners: Listeners | None = None
        self._from_start = False
        self._next: float | None = None  # None before the first piece

    def add(self, text: str) -> None:
        """Add a piece; report what has been collected unless the last report was a moment ago."""
        # No timer reports the rest when the model pauses: the next piece does, or the flush at the end.
        self._waiting.append(text)
        now = self._clock()
        if self._next is None:
            self._next = now + SHORTEST_GAP_SECONDS
        if now >= self._next:
            self._flush()

    def finish(self) -> None:
        """Report the rest, if anything was reported before."""
        if self._reported:
            self._flush()

    def _flush(self) -> None:
        text = "".join(self._waiting)
        self._waiting.clear()
        if not text:
            return
        self._reported.append(text)
        piece = StageProgress(self._stage, self._attempt, self._offset, text)
        if self._from_start:
            piece = StageProgress(self._stage, self._attempt, 0, "".join(self._reported))
        listeners = self._report(piece)
        self._offset += len(text)
        # What they say is about the piece before: whoever is new heard none before that.
        before, self._listeners = self._listeners, listeners
        self._from_start = before is not None and listeners is not None and _has_more(listeners, before)
        unheard = listeners is not None and not listeners.processes
        self._next = self._clock() + (UNHEARD_GAP_SECONDS if unheard else SHORTEST_GAP_SECONDS)


def _has_more(listeners: Listeners, before: Listeners) -> bool:
    # An API of the build before says no word.
    return bool(listeners.words - before.words) or listeners.processes > before.processes
