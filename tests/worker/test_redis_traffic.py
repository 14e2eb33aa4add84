"""What a run sends to Redis: each message costs the worker about as much CPU as a short statement."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import redis

from actors.app import broker
from tests.fakes.behaviours import Behaviour
from tests.fakes.model_server import ModelServer
from tests.fakes.wire import PIECE_CHARACTERS
from tests.support.runs import create, wait_until_still
from tests.worker.conftest import StartWorker, kimi
from vm_webapp.execution.progress import UNHEARD_GAP_SECONDS

# Of a run of three stages: it was created; it was claimed; the end of each stage. Texts that are soon complete are not
# published.
NOTICES_OF_A_RUN = 1 + 1 + 3
# It is pushed; its list is kept short, and expires.
HINT_COMMANDS = {"rpush": 1, "ltrim": 1, "expire": 1}


@pytest.fixture
def client(redis_url: str) -> Iterator[redis.Redis]:
    """A client of the workers' Redis."""
    with redis.Redis.from_url(redis_url) as connected:
        yield connected


def calls(client: redis.Redis) -> dict[str, int]:
    """Return how often Redis has run each command since the last ``config_resetstat``."""
    return {
        name.removeprefix("cmdstat_"): int(counted["calls"]) for name, counted in client.info("commandstats").items()
    }


def test_a_run_sends_one_hint_and_few_notices(
    start_worker: StartWorker, client: redis.Redis, model: ModelServer
) -> None:
    with start_worker(**kimi(model), poll_seconds=30):
        wait_until_still(create("plan_90d", auto_approve=True).run.id)  # reads the clock, asks for earlier workers
        assert broker.sender.flush(5)
        client.config_resetstat()
        wait_until_still(create("plan_90d", auto_approve=True).run.id)
        assert broker.sender.flush(5)
        made = calls(client)
    assert made["publish"] <= NOTICES_OF_A_RUN
    presence = made.get("set", 0)
    assert {name: made[name] for name in HINT_COMMANDS} == HINT_COMMANDS | {"expire": 1 + presence}, made
    assert "evalsha" not in made


def test_runs_that_go_on_at_the_same_time_share_round_trips(
    start_worker: StartWorker, client: redis.Redis, model: ModelServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(broker.notices.lane, "rest_seconds", 0.5)  # longer than this machine may need for a stage
    rounds: list[int] = []
    execute = redis.client.Pipeline.execute

    def count(pipeline: redis.client.Pipeline, *arguments: Any, **options: Any) -> Any:
        names = {command[0][0] for command in pipeline.command_stack}
        if names == {"PUBLISH"}:
            rounds.append(len(pipeline.command_stack))
        return execute(pipeline, *arguments, **options)

    monkeypatch.setattr(redis.client.Pipeline, "execute", count)
    with start_worker(**kimi(model), worker_threads=8):
        runs = [create("plan_90d", auto_approve=True).run.id for _ in range(16)]
        for run in runs:
            assert wait_until_still(run).status == "completed"
    assert sum(rounds) <= 16 * NOTICES_OF_A_RUN
    assert len(rounds) < 16, f"rounds of so many notices: {rounds}"


def test_text_that_nobody_follows_is_published_once_a_second(
    start_worker: StartWorker, client: redis.Redis, model: ModelServer
) -> None:
    pieces = 60
    model.script = lambda body: Behaviour(text="x" * PIECE_CHARACTERS * pieces, pause=0.02)
    with start_worker(**kimi(model)):
        client.config_resetstat()
        run = wait_until_still(create("plan_90d", auto_approve=True).run.id)
        published = calls(client)["publish"]
    assert run.started_at is not None
    assert run.finished_at is not None
    seconds = (run.finished_at - run.started_at).total_seconds()
    # The first words of each stage, those that follow before Redis has said that nobody heard them, and the rest.
    assert published <= NOTICES_OF_A_RUN + 3 * 3 + seconds / UNHEARD_GAP_SECONDS
