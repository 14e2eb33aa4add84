"""Queries that show, at the end of a test, that no work was lost, done twice or written late, and how long it took."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from tests.support.runs import create, lost_hints, read
from tests.support.waiting import eventually
from vm_webapp.errors import DatabaseUnavailable

OPEN = ("queued", "running", "waiting_approval")


@dataclass(frozen=True, slots=True)
class Orphan:
    """An attempt whose worker was killed or stopped at ``since``, by the database's clock."""

    run_id: UUID
    stage: str
    attempt: int
    token: UUID
    since: datetime


def create_many(count: int, workflow: str = "plan_90d", *, send_hints: bool = True) -> list[UUID]:
    """Create runs that need no approval; send their hints unless ``send_hints`` is false."""
    with nullcontext() if send_hints else lost_hints():
        return [create(workflow, f"request {number}", auto_approve=True).run.id for number in range(count)]


def read_when_up(sql: str, **params: Any) -> list[dict[str, Any]]:
    """Do the same as ``read``, but wait for a database that is down."""

    def try_read() -> list[dict[str, Any]] | None:
        try:
            return [*read(sql, **params), {}]  # never empty, so that no rows are a result, too
        except DatabaseUnavailable:
            return None

    found = eventually(try_read, "a response of the database", seconds=120, every=0.2)
    assert found is not None
    return found[:-1]


def open_runs() -> int:
    """Return how many runs are not finished."""
    return int(read_when_up("SELECT count(*) AS n FROM runs WHERE status = ANY(%(open)s)", open=list(OPEN))[0]["n"])


def completed_stages() -> int:
    """Return how many stages are completed."""
    return int(read_when_up("SELECT count(*) AS n FROM stages WHERE status = 'completed'")[0]["n"])


def wait_for_all(*, seconds: float) -> None:
    """Wait until every run is final, whatever its status."""
    eventually(lambda: open_runs() == 0, "every run finished", seconds=seconds, every=0.1)


def assert_nothing_lost(created: int) -> None:
    """Assert that every run is completed, and every stage exactly once, with one artifact of the last attempt."""
    by_status = {row["status"]: row["n"] for row in read("SELECT status, count(*) AS n FROM runs GROUP BY status")}
    assert by_status == {"completed": created}, f"{by_status}; {failures()}"
    wrong = read(
        """
        SELECT s.run_id, s.key, s.status, s.attempt,
               (SELECT array_agg(a.version) FROM artifacts a WHERE a.stage_id = s.id) AS versions,
               (SELECT count(*) FROM events e
                 WHERE e.run_id = s.run_id AND e.stage = s.key AND e.type = 'stage.completed') AS completed,
               (SELECT count(*) FROM events e
                 WHERE e.run_id = s.run_id AND e.stage = s.key AND e.type = 'stage.started') AS started
          FROM stages s
        """
    )
    for stage in wrong:
        found = (stage["status"], stage["versions"], stage["completed"])
        assert found == ("completed", [1], 1), stage
        assert stage["started"] == stage["attempt"], stage


def failures() -> list[dict[str, Any]]:
    """Return the errors of failed stages, most frequent first."""
    return read(
        """
        SELECT error->>'code' AS code, error->>'message' AS message, count(*) AS n
          FROM stages WHERE status = 'failed' GROUP BY 1, 2 ORDER BY 3 DESC LIMIT 5
        """
    )


def counted() -> dict[str, int]:
    """Return the sums of the stages' counters."""
    found = read(
        """
        SELECT sum(attempt)::int AS attempts, sum(failures)::int AS failures, sum(rescues)::int AS rescues,
               sum(releases)::int AS releases FROM stages
        """
    )
    return dict(found[0])


def worker_id_of(pid: int) -> UUID:
    """Return the worker id of a process."""
    found = read("SELECT worker_id FROM worker_heartbeats WHERE pid = %(pid)s ORDER BY started_at DESC", pid=pid)
    assert found, f"process {pid} has no heartbeat"
    return UUID(str(found[0]["worker_id"]))


def orphans_of(worker_id: UUID, since: datetime) -> list[Orphan]:
    """Return a worker's running attempts."""
    found = read(
        """
        SELECT run_id, key, attempt, lease_token FROM stages
         WHERE worker_id = %(worker)s AND status = 'running'
        """,
        worker=worker_id,
    )
    return [Orphan(row["run_id"], row["key"], row["attempt"], row["lease_token"], since) for row in found]


def seconds_until_started_again(orphans: list[Orphan]) -> list[float]:
    """Return how long each orphan waited for its next attempt, shortest first.

    A stage that the orphan completed itself, in a COMMIT whose result its dead worker never received, is left out.
    """
    waits = []
    for orphan in orphans:
        events = read(
            """
            SELECT type, created_at, (data->>'attempt')::int AS attempt FROM events
             WHERE run_id = %(run)s AND stage = %(stage)s ORDER BY id
            """,
            run=orphan.run_id,
            stage=orphan.stage,
        )
        again = [e for e in events if e["type"] == "stage.started" and e["attempt"] == orphan.attempt + 1]
        if again:
            waits.append((again[0]["created_at"] - orphan.since).total_seconds())
        else:
            assert events[-1]["type"] == "stage.completed", (orphan, events)
    return sorted(waits)


def quantile(ordered: list[float], share: float) -> float:
    """Return the quantile of a sorted list; ``share`` is from 0 to 1."""
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))]


def completions_per_second(since: datetime, until: datetime) -> float:
    """Return how many stages per second were completed between two times of the database's clock."""
    found = read_when_up(
        """
        SELECT count(*) / extract(epoch FROM %(until)s::timestamptz - %(since)s::timestamptz) AS pace
          FROM events WHERE type = 'stage.completed' AND created_at >= %(since)s AND created_at < %(until)s
        """,
        since=since,
        until=until,
    )
    return float(found[0]["pace"])


def database_now() -> datetime:
    """Return the time by the database's clock."""
    now: datetime = read_when_up("SELECT clock_timestamp() AS now")[0]["now"]
    return now
