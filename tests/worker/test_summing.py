"""A worker sums the calls that have ended, at a price that an idle system does not notice."""

from __future__ import annotations

from tests.support.runs import read
from tests.support.statements import counted
from tests.worker.conftest import MakePulse
from tests.worker.ticks import tick
from vm_webapp.db.pool import close_pool, execute, open_pool, transaction


def waiting() -> int:
    """Return how many calls no day has yet."""
    return len(read("SELECT id FROM unsummed_calls"))


def add_call() -> None:
    """Add a call, as another worker does."""
    with transaction():
        execute(
            """INSERT INTO unsummed_calls (day, workflow, model, prompt_tokens, completion_tokens, estimated)
               VALUES (current_date, 'w', 'm', 1, 1, false)"""
        )


def test_a_worker_that_works_sums_every_ten_seconds_and_an_idle_one_once_a_minute(
    make_pulse: MakePulse, database: str
) -> None:
    pulse = make_pulse()
    tick(pulse, *(float(second) for second in range(1, 10)))
    pulse._activity.count("claimed")
    add_call()
    tick(pulse, *(float(second) for second in range(10, 25)))
    assert waiting() == 0
    close_pool()
    with counted(database) as (traffic, url):
        open_pool(url, max_connections=1, application_name="tests")
        tick(pulse, *(float(second) for second in range(100, 281)))
        sums = [query for query in traffic.taken() if "unsummed_calls" in query.sql]
        close_pool()
    open_pool(database, max_connections=4, application_name="tests")
    assert len(sums) == 3
