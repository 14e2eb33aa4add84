"""Budgets with 32 calls in flight in two worker processes: they are passed by no more than those, and the next day
goes on by itself.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from itertools import count
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from actors import connected
from tests.fakes.behaviours import Behaviour
from tests.fakes.model_server import ModelServer
from tests.support.actors import OPERATOR
from tests.support.deployment import managed_environment
from tests.support.processes import program
from tests.support.runs import create, read, types, wait_until_still
from tests.support.waiting import eventually
from vm_webapp.context import brands
from vm_webapp.db.pool import execute, transaction
from vm_webapp.runs import queries
from vm_webapp.runs.budget import Budget

WORKERS, THREADS = 2, 16
IN_FLIGHT = WORKERS * THREADS
CALL = {"prompt_tokens": 600, "completion_tokens": 400}
CALL_TOKENS = sum(CALL.values())
BUDGET_CALLS, RUNS, STAGES = 60, 80, 2


@pytest.fixture
def model() -> Iterator[ModelServer]:
    """A fake Kimi whose calls end one after the other, so that many are in flight when the budget is spent."""
    numbers = count()

    def answer(_: Any) -> Behaviour:
        number = next(numbers)
        # The first ones take long enough for all threads to have begun one, also on a machine that is busy.
        shortest = 1.5 if number < IN_FLIGHT else 0.2
        return Behaviour(delay=shortest + 0.02 * (number % IN_FLIGHT), usage=CALL)

    with ModelServer(answer) as server:
        yield server


@pytest.fixture
def workers(database: str, redis_url: str, model: ModelServer, tmp_path: Path) -> Iterator[None]:
    """Two workers with 16 threads each, which also get hints from this process."""
    env = managed_environment(database, redis_url, tmp_path, KIMI_API_KEY="sk-test-key", KIMI_BASE_URL=model.base_url)
    with connected(redis_url), ExitStack() as stack:
        for number in range(WORKERS):
            folder = tmp_path / f"worker-{number}"
            stack.enter_context(program("worker", "--threads", str(THREADS), env=env, folder=folder))
        working = "SELECT 1 FROM worker_heartbeats WHERE state = 'working'"
        eventually(lambda: len(read(working)) == WORKERS, "the workers work", seconds=30)
        yield


def used_by(brand: UUID) -> int:
    """Return how many tokens a brand has used, on whichever day."""
    (used,) = read(
        "SELECT coalesce(sum(tokens), 0)::int AS tokens FROM ("
        " SELECT prompt_tokens + completion_tokens AS tokens FROM usage_days WHERE brand_id = %(id)s UNION ALL"
        " SELECT prompt_tokens + completion_tokens FROM unsummed_calls WHERE brand_id = %(id)s) calls",
        id=brand,
    )
    return int(used["tokens"])


def statuses(brand: UUID) -> list[str]:
    """Return the statuses of the brand's runs."""
    return [each["status"] for each in read("SELECT status FROM runs WHERE brand_id = %(id)s", id=brand)]


@pytest.mark.usefixtures("workers")
def test_a_day_budget_is_passed_by_no_more_than_the_calls_in_flight(model: ModelServer) -> None:
    budget = {"tokens": BUDGET_CALLS * CALL_TOKENS, "money": None}
    brand = brands.create({"name": "Molar", "day_budget": budget}, actor=OPERATOR).id
    runs = [create("content_calendar", brand_id=brand).run.id for _ in range(RUNS)]
    assert RUNS * STAGES > BUDGET_CALLS + 2 * IN_FLIGHT
    eventually(lambda: used_by(brand) >= BUDGET_CALLS * CALL_TOKENS, "the budget is spent", seconds=60)
    model.wait_until(lambda server: server.in_flight == 0, seconds=30)
    other = wait_until_still(create("content_calendar").run.id)  # polls come and go meanwhile
    spent = used_by(brand)
    assert model.most_in_flight == IN_FLIGHT
    assert BUDGET_CALLS * CALL_TOKENS <= spent < (BUDGET_CALLS + IN_FLIGHT) * CALL_TOKENS
    assert other.status == "completed"
    assert set(statuses(brand)) == {"completed", "running", "queued"}
    waiting = queries.get_run(runs[-1]).waiting_on
    assert waiting is not None
    assert waiting.kind == "brand_budget"

    with transaction():  # a day later
        for table in ("usage_days", "unsummed_calls"):
            execute(f"UPDATE {table} SET day = day - 1 WHERE brand_id IS NOT NULL")
    eventually(lambda: used_by(brand) > spent + IN_FLIGHT * CALL_TOKENS, "the next day goes on", seconds=60)


@pytest.mark.usefixtures("workers")
def test_runs_whose_own_budget_is_spent_fail_after_one_call_too_many_at_most(model: ModelServer) -> None:
    runs = [
        create("plan_90d", auto_approve=True, budget=Budget(tokens=CALL_TOKENS + 1)).run.id for _ in range(IN_FLIGHT)
    ]
    ended = [wait_until_still(run, seconds=60) for run in runs]
    assert {(run.status, run.error.code if run.error else None) for run in ended} == {("failed", "budget_exceeded")}
    assert len(model.requests) == 2 * IN_FLIGHT
    assert types(runs[0])[-2:] == ["stage.failed", "run.failed"]
