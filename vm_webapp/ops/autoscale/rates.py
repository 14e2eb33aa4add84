"""How many stages come and go in a minute, and how long an attempt runs, from what workers have counted in all.

What the last measurement knew is passed to the next one, so that another process can go on with it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

WINDOW_SECONDS = 60.0
SHORTEST_SECONDS = 15.0
# What happened in a longer gap says nothing of the last minute.
LONGEST_GAP_SECONDS = 300.0
# Of about so many attempts the mean is taken: a change of what they do shows soon, and one slow attempt does not.
ATTEMPTS = 200.0


@dataclass(frozen=True, slots=True)
class Counted:
    """What a worker has counted since it started.

    Attributes:
        since: when it started, in seconds since the epoch.
        attempts: its attempts that have ended, in whatever way.
        milliseconds: how long they took together, from claim to end.
    """

    since: float
    attempts: int
    milliseconds: int


@dataclass(frozen=True, slots=True)
class Measured:
    """A measurement, and what the next one needs of it.

    Attributes:
        at: when, in seconds since the epoch.
        level: stages that were due or running.
        workers: id → attempts and milliseconds, as far as each had counted.
        owed: by how many stages the last step was too low: a stage leaves ``level`` up to a second before its worker
            tells so. 0 or less.
        samples: at → arrivals and ended attempts in all, over the last minute.
        attempts: of how many attempts the mean is taken.
        seconds: how long those ran together.
    """

    at: float
    level: int
    workers: dict[str, tuple[int, int]]
    owed: int
    samples: list[tuple[float, int, int]]
    attempts: float
    seconds: float

    @property
    def arrivals_per_minute(self) -> float:
        """Stages that became due, as a mean of the last minute."""
        return self._per_minute(1)

    @property
    def completions_per_minute(self) -> float:
        """Attempts that ended, as a mean of the last minute."""
        return self._per_minute(2)

    @property
    def mean_seconds(self) -> float | None:
        """How long an attempt runs, as a mean of about the last two hundred; None while none has ended."""
        return self.seconds / self.attempts if self.attempts else None

    def as_json(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return asdict(self)

    def _per_minute(self, place: int) -> float:
        first, last = self.samples[0], self.samples[-1]
        return 60.0 * (last[place] - first[place]) / max(SHORTEST_SECONDS, last[0] - first[0])


def from_json(found: Any) -> Measured | None:
    """Return what ``as_json`` made; None for anything else, such as what another version wrote."""
    try:
        return Measured(
            at=float(found["at"]),
            level=int(found["level"]),
            workers={str(name): (int(each[0]), int(each[1])) for name, each in found["workers"].items()},
            owed=min(0, int(found["owed"])),
            samples=[(float(at), int(arrived), int(ended)) for at, arrived, ended in found["samples"]],
            attempts=float(found["attempts"]),
            seconds=float(found["seconds"]),
        )
    except (KeyError, IndexError, TypeError, ValueError, AttributeError):
        return None


def measure(before: Measured | None, at: float, level: int, workers: Mapping[str, Counted]) -> Measured:
    """Measure once more.

    Args:
        before: the last measurement, None if there was none.
        at: the time, in seconds since the epoch.
        level: stages that are due or running.
        workers: id → what each has counted, of those that have told anything in the last minutes.
    """
    totals = {name: (each.attempts, each.milliseconds) for name, each in workers.items()}
    if before is None or not before.samples or not 0 <= at - before.at <= LONGEST_GAP_SECONDS:
        attempts, seconds = (before.attempts, before.seconds) if before else (0.0, 0.0)
        return Measured(at, level, totals, 0, [(at, 0, 0)], attempts, seconds)
    steps = [_step(before, name, each) for name, each in workers.items()]
    ended, milliseconds = sum(step[0] for step in steps), sum(step[1] for step in steps)
    # What is neither due nor running any more without an end was canceled, or is held back: that is no arrival less.
    change = level - before.level + ended
    _, arrived_before, ended_before = before.samples[-1]
    sample = (at, arrived_before + max(0, change + before.owed), ended_before + ended)
    attempts, seconds = before.attempts + ended, before.seconds + milliseconds / 1000
    scale = min(1.0, ATTEMPTS / attempts) if attempts else 1.0
    return Measured(
        at, level, totals, min(0, change), _of_a_minute([*before.samples, sample]), attempts * scale, seconds * scale
    )


def _step(before: Measured, name: str, now: Counted) -> tuple[int, int]:
    """Return how many attempts of a worker have ended since then, and how many milliseconds they took."""
    known = before.workers.get(name)
    if known is None:
        # One that was silent for long and tells again has counted in a time that is over.
        return (now.attempts, now.milliseconds) if now.since >= before.at - WINDOW_SECONDS else (0, 0)
    return max(0, now.attempts - known[0]), max(0, now.milliseconds - known[1])


def _of_a_minute(samples: list[tuple[float, int, int]]) -> list[tuple[float, int, int]]:
    """Drop what is older than a minute, but for the newest of that."""
    start = samples[-1][0] - WINDOW_SECONDS
    older = sum(sample[0] <= start for sample in samples)
    return samples[max(0, older - 1) :]
