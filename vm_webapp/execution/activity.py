"""The activity of a worker process: its last claim, model call and error, and its counters."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any


@dataclass
class Activity:
    """The recent activity of this process, which its heartbeat reports."""

    last_claim_at: datetime | None = None
    last_model_outcome: dict[str, Any] | None = None
    last_error: dict[str, Any] | None = None
    counters: dict[str, int] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def count(self, name: str, times: int = 1) -> None:
        """Add to a counter."""
        # Every thread counts, and reading and adding are two steps: without the lock, counts would be lost.
        with self._lock:
            self.counters[name] = self.counters.get(name, 0) + times

    def count_attempt(self, seconds: float) -> None:
        """Count an attempt that has ended, in whatever way, so many seconds after its claim."""
        with self._lock:
            self.counters["attempts"] = self.counters.get("attempts", 0) + 1
            self.counters["attempt_ms"] = self.counters.get("attempt_ms", 0) + round(seconds * 1000)

    def note_outcome(self, code: str, message: str | None) -> None:
        """Note how a model call ended: ``ok``, or the code of its failure."""
        # No lock here and in note_error: assigning a new dictionary is atomic, and the last writer may win.
        self.last_model_outcome = {"code": code, "message": message, "at": datetime.now(UTC).isoformat()}

    def note_error(self, error: str) -> None:
        """Note an error outside of any stage, such as one in the loop that renews the leases."""
        self.last_error = {"error": error, "at": datetime.now(UTC).isoformat()}

    def snapshot(self) -> dict[str, int]:
        """Return the counters as they are now."""
        with self._lock:
            return dict(self.counters)
