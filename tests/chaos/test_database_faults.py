"""PostgreSQL fails briefly under load: every run completes in the same worker processes, without a rescue."""

from __future__ import annotations

import time
from contextlib import closing
from pathlib import Path

import psycopg2
import pytest

from tests.chaos import faults
from tests.chaos.clients import RetryingClient
from tests.chaos.faults import Fault
from tests.chaos.harness import Fleet
from tests.chaos.ledger import assert_nothing_lost, completed_stages, counted, create_many, wait_for_all
from tests.chaos.stack import running_stack
from tests.fakes.model_server import random_script
from tests.support.runs import read
from tests.support.waiting import eventually

pytestmark = pytest.mark.timeout(300)

# How many seconds each fault lasts.
MOMENTS: dict[Fault, float] = {
    faults.postgres_restarted: 0,
    faults.postgres_hanging: 1.5,
    faults.sessions_taken: 1,
    faults.runs_locked: 1,
}
# Only with --full: each is like one of those.
MOMENTS_IN_FULL: dict[Fault, float] = {
    faults.postgres_stopped: 1.5,
    faults.sessions_killed: 1,
    faults.pools_frozen: 1.5,
}


def test_a_database_that_fails_for_moments(tmp_path: Path, full: bool) -> None:
    with running_stack(tmp_path, random_script(0.1, 0.4, 0.0, seed=7), threads=4) as stack:
        pids = stack.fleet.pids()
        runs = 0
        for fault, seconds in (MOMENTS | (MOMENTS_IN_FULL if full else {})).items():
            before = completed_stages()
            runs += len(create_many(12, send_hints=False))
            eventually(lambda before=before: completed_stages() > before, "work is under way")  # type: ignore[misc]
            with RetryingClient(lambda: stack.api, every=0.1) as client:
                with fault(stack):
                    time.sleep(seconds)
                over, refused = time.monotonic(), client.refused
                client.wait_for_another(seconds=30)
            wait_for_all(seconds=30)
            print(
                f"{fault.__name__} for {seconds:g} s, {refused} requests refused:"
                f" all completed {time.monotonic() - over:.1f} s later"
            )
            runs += len(client.accepted)
            assert counted()["rescues"] == counted()["failures"] == 0, fault.__name__
            assert stack.fleet.pids() == pids, fault.__name__
        assert_nothing_lost(runs)


def test_a_session_that_dies_while_a_prompt_is_read_costs_no_attempt(fleet: Fleet, database: str) -> None:
    waiting = "FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    create_many(1, "content_calendar", send_hints=False)
    with closing(psycopg2.connect(database)) as holder, holder.cursor() as cursor:
        cursor.execute("LOCK TABLE artifacts IN ACCESS EXCLUSIVE MODE")
        fleet.start_and_wait(1, threads=1)
        eventually(lambda: read(f"SELECT pid {waiting}"), "the attempt reads the earlier artifacts")
        assert read(f"SELECT pg_terminate_backend(pid) AS ended {waiting}") == [{"ended": True}]
        holder.rollback()
    wait_for_all(seconds=20)
    assert_nothing_lost(1)
    assert counted() == {"attempts": 2, "failures": 0, "rescues": 0, "releases": 0}
