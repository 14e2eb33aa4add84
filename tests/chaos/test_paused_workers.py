"""Workers are stopped past the end of their leases and continued: they cannot write to stages that others took over."""

from __future__ import annotations

import signal

import pytest

from tests.chaos.harness import Fleet
from tests.chaos.ledger import (
    Orphan,
    assert_nothing_lost,
    create_many,
    database_now,
    orphans_of,
    wait_for_all,
    worker_id_of,
)
from tests.fakes.model_server import ModelServer, random_script
from tests.support.processes import Program
from tests.support.runs import read
from tests.support.waiting import eventually
from vm_webapp.db.pool import execute, transaction
from vm_webapp.runs import lifecycle

pytestmark = pytest.mark.timeout(1800)

THREADS = 4


def pause(workers: list[Program]) -> list[Orphan]:
    """Stop workers (SIGSTOP); return their running attempts."""
    for worker in workers:
        worker.signal(signal.SIGSTOP)
    since = database_now()
    return [orphan for worker in workers for orphan in orphans_of(worker_id_of(worker.pid), since)]


def taken_over(asleep: list[Orphan]) -> list[Orphan]:
    """Return the attempts whose stage another worker has claimed since."""
    keys = [f"{orphan.run_id}/{orphan.stage}/{orphan.attempt + 1}" for orphan in asleep]
    started = read(
        """
        SELECT run_id, stage FROM events
         WHERE type = 'stage.started' AND run_id::text || '/' || stage || '/' || (data->>'attempt') = ANY(%(keys)s)
        """,
        keys=keys,
    )
    again = {(event["run_id"], event["stage"]) for event in started}
    return [orphan for orphan in asleep if (orphan.run_id, orphan.stage) in again]


def finished_while_stopping(asleep: list[Orphan]) -> int:
    """Return how many attempts had sent their COMMIT when they were stopped. No worker takes those over."""
    tokens = [orphan.token for orphan in asleep]
    found = read("SELECT count(*) AS n FROM artifacts WHERE attempt_token = ANY(%(tokens)s::uuid[])", tokens=tokens)
    return int(found[0]["n"])


def late_writes(stale: list[Orphan]) -> list[dict[str, object]]:
    """Return the artifacts and events that attempts wrote after their stage had been taken over."""
    artifacts = read(
        "SELECT run_id, attempt_token FROM artifacts WHERE attempt_token = ANY(%(tokens)s::uuid[])",
        tokens=[orphan.token for orphan in stale],
    )
    events = []
    for orphan in stale:
        events += read(
            """
            SELECT e.run_id, e.type, e.data FROM events e
             WHERE e.run_id = %(run)s AND e.stage = %(stage)s AND (e.data->>'attempt')::int = %(attempt)s
               AND e.type NOT IN ('stage.started', 'stage.rescued')
            """,
            run=orphan.run_id,
            stage=orphan.stage,
            attempt=orphan.attempt,
        )
    return [*artifacts, *events]


def end_leases(attempts: list[Orphan]) -> None:
    """Expire leases at once, so that the short form need not wait fifteen seconds."""
    with transaction():
        execute(
            "UPDATE stages SET lease_expires_at = clock_timestamp() WHERE lease_token = ANY(%(tokens)s::uuid[])",
            tokens=[attempt.token for attempt in attempts],
        )
    lifecycle.rescue_expired_leases()


def test_a_worker_that_slept_past_its_leases_writes_nothing(fleet: Fleet, model: ModelServer, full: bool) -> None:
    workers, sleepers, rounds = (12, 8, 25) if full else (3, 2, 1)
    # Slow enough that the second attempt still runs when the first one continues with a complete response.
    model.script = random_script(1.0, 2.5, 0.0, seed=7)
    fleet.start_and_wait(workers, threads=THREADS)
    stale: list[Orphan] = []
    runs = slept = 0
    for number in range(rounds):
        runs += len(create_many(workers * THREADS // 2, "content_calendar"))
        eventually(lambda: model.in_flight >= sleepers, "work is under way")
        victims = [fleet.workers[(number * sleepers + index) % workers] for index in range(sleepers)]
        stale += sleep_until_taken_over(victims, wait_for_leases=full)
        slept += len(victims)
        wait_for_all(seconds=60)

    assert_nothing_lost(runs)
    assert len(stale) >= sleepers
    assert late_writes(stale) == []
    assert len(fleet.pids()) == workers
    print(f"{slept} workers slept past their leases, {len(stale)} attempts were taken over, 0 late writes")


def sleep_until_taken_over(victims: list[Program], *, wait_for_leases: bool) -> list[Orphan]:
    """Stop workers until others have claimed their stages, then continue them; return the attempts taken over."""
    asleep = pause(victims)
    if not wait_for_leases:
        end_leases(asleep)
    eventually(
        lambda: len(taken_over(asleep)) + finished_while_stopping(asleep) == len(asleep),
        "others take over",
        seconds=60,
        every=0.1,
    )
    stale = taken_over(asleep)
    for victim in victims:
        victim.signal(signal.SIGCONT)
    return stale
