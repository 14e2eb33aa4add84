"""PostgreSQL fails under load: everything completes, at the old pace, in the same processes, and nothing is rescued."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from datetime import timedelta
from pathlib import Path

import psycopg2
import pytest

from tests.chaos.harness import Fleet, OwnServer, every, own_postgres, own_redis
from tests.chaos.ledger import (
    assert_nothing_lost,
    completed_stages,
    completions_per_second,
    counted,
    create_many,
    database_now,
    open_runs,
    patient,
    wait_for_all,
)
from tests.fakes.model_server import ModelServer, random_script
from tests.support.processes import child_pids
from tests.support.runs import read
from tests.support.waiting import eventually

pytestmark = pytest.mark.timeout(900)

Fault = Callable[[OwnServer, float], None]

WORKERS = 2
BACK_WITHIN_SECONDS = 60
WINDOW_SECONDS = 10
OUR_SESSIONS = "FROM pg_stat_activity WHERE application_name LIKE 'vm-webapp%'"


@contextmanager
def session(server: OwnServer) -> Iterator[psycopg2.extensions.cursor]:
    """A session of an administrator's own."""
    with closing(psycopg2.connect(server.url, application_name="chaos")) as connection:
        connection.autocommit = True
        with connection.cursor() as cursor:
            yield cursor


def restarted(server: OwnServer, seconds: float) -> None:
    """Stopped and started at once."""
    server.stop()
    server.start()


def stopped(server: OwnServer, seconds: float) -> None:
    """Nobody listens."""
    server.stop()
    time.sleep(seconds)
    server.start()


def black_hole(server: OwnServer, seconds: float) -> None:
    """Every connection stays open, new ones are accepted, and nothing answers."""
    frozen = [server.pid(), *child_pids(server.pid())]
    for pid in frozen:
        os.kill(pid, signal.SIGSTOP)
    time.sleep(seconds)
    for pid in frozen:
        os.kill(pid, signal.SIGCONT)


def sessions_killed(server: OwnServer, seconds: float) -> None:
    """Every session of the product is ended, again and again."""
    with session(server) as admin:
        every(0.25, during=seconds, do=lambda: admin.execute(f"SELECT pg_terminate_backend(pid) {OUR_SESSIONS}"))


def sessions_used_up(server: OwnServer, seconds: float) -> None:
    """Somebody else has taken every session that the server has."""
    with session(server) as admin, ExitStack() as taken:
        admin.execute(f"SELECT pg_terminate_backend(pid) {OUR_SESSIONS}")
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            try:
                taken.enter_context(closing(psycopg2.connect(server.url, application_name="greedy")))
            except psycopg2.OperationalError:
                admin.execute(f"SELECT pg_terminate_backend(pid) {OUR_SESSIONS}")
                time.sleep(0.05)


def runs_locked(server: OwnServer, seconds: float) -> None:
    """Somebody holds the tables so that every statement waits until its time is over."""
    with session(server) as admin:
        admin.execute("BEGIN")
        admin.execute("LOCK TABLE runs, stages IN ACCESS EXCLUSIVE MODE")
        time.sleep(seconds)
        admin.execute("COMMIT")


@pytest.fixture
def broken_fleet(tmp_path: Path, full: bool) -> Iterator[tuple[OwnServer, Fleet]]:
    """Workers on a PostgreSQL that may be harmed."""
    script = random_script(0.2, 2.0, 0.0, seed=7) if full else random_script(0.1, 0.4, 0.0, seed=7)
    with (
        own_postgres() as postgres,
        own_redis() as redis,
        ModelServer(script) as model,
        Fleet(tmp_path, postgres.url, redis.url, model) as fleet,
    ):
        fleet.start_and_wait(WORKERS, threads=16 if full else 4)
        yield postgres, fleet


# Seconds of each, in the short form and in the full one.
FAULTS: dict[Fault, tuple[float, float]] = {
    restarted: (0, 0),
    stopped: (1.5, 60),
    black_hole: (1.5, 60),
    sessions_killed: (1, 20),
    sessions_used_up: (1, 20),
    runs_locked: (1, 20),
}


def test_a_database_that_fails_for_moments(broken_fleet: tuple[OwnServer, Fleet]) -> None:
    server, fleet = broken_fleet
    pids = fleet.pids()
    runs = 0
    for fault, (seconds, _) in FAULTS.items():
        before = completed_stages()
        runs += len(create_many(12, ring=False))
        eventually(lambda before=before: completed_stages() > before, "work is under way")  # type: ignore[misc]
        fault(server, seconds)
        over = time.monotonic()
        wait_for_all(seconds=30)
        print(f"{fault.__name__} for {seconds:g} s: all completed {time.monotonic() - over:.1f} s later")
        assert counted()["rescues"] == counted()["failures"] == 0, fault.__name__
        assert fleet.pids() == pids, fault.__name__
    assert_nothing_lost(runs)


def test_a_session_that_dies_while_a_prompt_is_read_costs_no_attempt(fleet: Fleet, database: str) -> None:
    waiting = "FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    create_many(1, "content_calendar", ring=False)
    with closing(psycopg2.connect(database)) as holder, holder.cursor() as cursor:
        cursor.execute("LOCK TABLE artifacts IN ACCESS EXCLUSIVE MODE")
        fleet.start_and_wait(1, threads=1)
        eventually(lambda: read(f"SELECT pid {waiting}"), "the attempt wants the earlier documents")
        assert read(f"SELECT pg_terminate_backend(pid) AS ended {waiting}") == [{"ended": True}]
        holder.rollback()
    wait_for_all(seconds=20)
    assert_nothing_lost(1)
    assert counted() == {"attempts": 2, "failures": 0, "rescues": 0, "releases": 0}


@pytest.mark.usefixtures("long_form")
@pytest.mark.parametrize("fault", FAULTS)
def test_throughput_comes_back_after_a_long_failure(broken_fleet: tuple[OwnServer, Fleet], fault: Fault) -> None:
    server, fleet = broken_fleet
    pids = fleet.pids()
    runs = len(create_many(1500, ring=False))
    time.sleep(5)
    since = database_now()
    time.sleep(2 * WINDOW_SECONDS)
    usual = completions_per_second(since, database_now())
    fault(server, FAULTS[fault][1])
    back = database_now()

    def is_back() -> bool:
        # The first window does not count: what was answered during the outage is written down in it, all at once.
        now, window = database_now(), timedelta(seconds=WINDOW_SECONDS)
        return now - back > 2 * window and completions_per_second(now - window, now) >= 0.95 * usual

    eventually(is_back, f"the old pace of {usual:.1f}/s", seconds=BACK_WITHIN_SECONDS, every=0.5)
    took = (database_now() - back).total_seconds()
    assert open_runs(), "there was work to do all the time"
    # The rest would take long and show nothing: every stage that was under way has ended by now.
    patient("DELETE FROM runs WHERE status = 'queued' RETURNING id")
    left = int(patient("SELECT count(*) AS n FROM runs")[0]["n"])
    wait_for_all(seconds=120)
    print(
        f"{fault.__name__} for {FAULTS[fault][1]:g} s: {left} of {runs} runs completed,"
        f" 95 % of {usual:.1f} stages/s after {took:.0f} s; {counted()}"
    )
    assert_nothing_lost(left)
    assert counted()["rescues"] == counted()["failures"] == 0
    assert fleet.pids() == pids
