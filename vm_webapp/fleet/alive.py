"""Which workers are alive, as conditions on rows of ``worker_heartbeats`` by the database's clock."""

from __future__ import annotations

from dataclasses import dataclass

from vm_webapp.db.pool import row, rows

FRESH_SECONDS = 6

FRESH = f"last_tick_at > clock_timestamp() - interval '{FRESH_SECONDS} seconds'"
ALIVE = f"(state <> 'stopped' AND {FRESH})"
WORKING = f"(state = 'working' AND {FRESH})"


@dataclass(frozen=True, slots=True)
class Crew:
    """The workers that are alive, take work, and call the same provider under the same cap.

    Attributes:
        provider: name of the provider that they call.
        cap: most calls of that provider in flight across all workers, None for no limit.
        workers: how many they are.
        slots: stages that they run at a time, together.
        in_flight: stages that they run now.
    """

    provider: str
    cap: int | None
    workers: int
    slots: int
    in_flight: int


NOBODY = Crew("", None, 0, 0, 0)
"""The crew of a database that no worker has used."""


def read_crews() -> tuple[Crew, ...]:
    """Return the working fleet, inside the current transaction; as a rule it is one crew."""
    found = rows(
        f"""
        SELECT provider, llm_cap AS cap, count(*)::int AS workers, sum(slots)::int AS slots,
               sum(in_flight)::int AS in_flight
          FROM worker_heartbeats WHERE {WORKING} GROUP BY provider, llm_cap ORDER BY provider, llm_cap
        """
    )
    return tuple(Crew(**each) for each in found)


def count_alive() -> int:
    """Return how many workers are alive in any state, inside the current transaction."""
    counted = row(f"SELECT count(*)::int AS workers FROM worker_heartbeats WHERE {ALIVE}")
    assert counted is not None
    found: int = counted["workers"]
    return found


def last_crew() -> Crew:
    """Return, where nobody works, the worker that was heard of last, for a crew like it is what may come."""
    found = row("SELECT provider, llm_cap AS cap FROM worker_heartbeats ORDER BY last_tick_at DESC, worker_id LIMIT 1")
    return Crew(found["provider"], found["cap"], 0, 0, 0) if found else NOBODY
