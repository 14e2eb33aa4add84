"""Work reaches a worker's threads by hints, by polling, with Redis or without, and rubbish in Redis does no harm."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import pytest
import redis

from actors import broker, execute_stage
from tests.fakes.behaviours import delayed
from tests.fakes.model_server import ModelServer
from tests.support.runs import create, create_and_ring, wait_until_still
from tests.support.waiting import eventually
from tests.worker.conftest import StartWorker
from vm_webapp.db.pool import execute, transaction
from vm_webapp.runs import queries

QUEUE = "vm:stages"


@pytest.fixture
def client(redis_url: str) -> Iterator[redis.Redis]:
    """A client of the same Redis."""
    with redis.Redis.from_url(redis_url) as connected:
        yield connected


def put_in_queue(client: redis.Redis, body: bytes, id: str = "") -> None:
    """Put bytes into Dramatiq's queue as if they were a message, and ring."""
    id = id or str(uuid4())
    client.hset(f"{QUEUE}.msgs", id, body.decode("latin-1"))
    client.rpush(QUEUE, id)
    client.lpush("vm:bell", 1)


def put_message(client: redis.Redis, **changes: Any) -> None:
    """Put a hint for an unknown stage into the queue as Dramatiq encodes it, with some of it changed."""
    id = str(uuid4())
    whole = {
        "queue_name": "stages",
        "actor_name": "execute_stage",
        "args": [str(uuid4())],
        "kwargs": {},
        "options": {"redis_message_id": id},
        "message_id": str(uuid4()),
        "message_timestamp": int(time.time() * 1000),
    }
    put_in_queue(client, json.dumps(whole | changes).encode(), id)


def test_a_hint_starts_an_idle_worker_long_before_its_next_poll(start_worker: StartWorker) -> None:
    with start_worker(poll_seconds=30):
        wait_until_still(create_and_ring("smoke"), seconds=5)
        began = time.monotonic()
        for _ in range(10):
            assert wait_until_still(create_and_ring("smoke"), seconds=5).status == "completed"
        assert time.monotonic() - began < 5


def test_a_lost_hint_is_found_by_polling(start_worker: StartWorker) -> None:
    with start_worker(poll_seconds=0.1):
        assert wait_until_still(create("smoke").run.id).status == "completed"


def test_work_goes_on_without_redis(start_worker: StartWorker) -> None:
    with start_worker(redis=None, poll_seconds=0.1):
        runs = [create_and_ring("smoke") for _ in range(20)]
        assert {wait_until_still(run).status for run in runs} == {"completed"}


def test_work_goes_on_when_redis_cannot_be_reached(start_worker: StartWorker) -> None:
    with start_worker(redis="redis://127.0.0.1:1/0", poll_seconds=0.1):
        assert wait_until_still(create_and_ring("smoke")).status == "completed"


def test_a_backlog_is_worked_off_oldest_first_within_the_slots(start_worker: StartWorker) -> None:
    runs = [create("content_calendar").run.id for _ in range(12)]
    with ModelServer(lambda body: delayed(0.1)) as model:
        settings = {"kimi_api_key": "sk-k", "kimi_base_url": model.base_url, "worker_threads": 2}
        with start_worker(**settings, poll_seconds=30):
            finished = [wait_until_still(run) for run in runs]
        assert model.most_in_flight == 2
    assert all(run.status == "completed" for run in finished)
    started = [run.started_at.timestamp() for run in finished if run.started_at]
    # Two that are handed out together may start in either order; none overtakes those before them.
    assert all(earlier < later for earlier, later in zip(started, started[2:], strict=False))


def test_low_priority_waits_for_normal_runs(start_worker: StartWorker) -> None:
    low = create("smoke", priority="low").run.id
    normal = create("smoke").run.id
    with start_worker(worker_threads=1):
        first, second = wait_until_still(normal), wait_until_still(low)
    assert first.started_at is not None
    assert second.started_at is not None
    assert first.started_at < second.started_at


RUBBISH: tuple[tuple[bytes | dict[str, Any], str], ...] = (
    (b"not json", "hint.malformed"),
    (b"{}", "hint.malformed"),
    (b"[]", "hint.malformed"),
    (b"\xff\xfe", "hint.malformed"),
    ({"actor_name": "drop_tables"}, "hint.unknown_actor"),
    ({"queue_name": "another"}, "hint.malformed"),
    ({"args": []}, "hint.malformed"),
    ({"args": [1]}, "hint.malformed"),
    ({"args": ["not-an-id"]}, "hint.malformed"),
    ({"kwargs": {"x": 1}}, "hint.malformed"),
    ({"message_timestamp": "yesterday"}, "hint.malformed"),
    ({}, "hint.dropped"),
)


@pytest.mark.parametrize(("rubbish", "said"), RUBBISH, ids=str)
def test_rubbish_in_the_queue_is_logged_once_and_dropped_for_good(
    start_worker: StartWorker,
    client: redis.Redis,
    caplog: pytest.LogCaptureFixture,
    rubbish: bytes | dict[str, Any],
    said: str,
) -> None:
    caplog.set_level("INFO")
    with start_worker(poll_seconds=30):
        if isinstance(rubbish, bytes):
            put_in_queue(client, rubbish)
        else:
            put_message(client, **rubbish)
        eventually(lambda: said in caplog.messages, f"{said} is logged")
        assert wait_until_still(create_and_ring("smoke")).status == "completed"
        eventually(lambda: not client.hlen(f"{QUEUE}.msgs"), "nothing is left that could come back")
    assert caplog.messages.count(said) == 1


def test_a_hint_with_a_time_to_wait_for_takes_no_slot(start_worker: StartWorker, client: redis.Redis) -> None:
    with start_worker(poll_seconds=30, worker_threads=1):
        id = str(uuid4())
        put_message(client, options={"redis_message_id": id, "eta": 9e15})
        assert wait_until_still(create_and_ring("smoke")).status == "completed"


def test_a_hint_for_a_finished_stage_changes_nothing(
    start_worker: StartWorker, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    with start_worker(poll_seconds=30):
        created = create("smoke")
        execute_stage.send(str(created.due_stage_ids[0]))
        wait_until_still(created.run.id)
        before = queries.list_events(created.run.id, after=0, limit=50)
        execute_stage.send(str(created.due_stage_ids[0]))
        eventually(lambda: "hint.dropped" in caplog.messages, "the hint is dropped")
        assert queries.list_events(created.run.id, after=0, limit=50) == before


def test_old_hints_of_a_backlog_cost_the_database_nothing(start_worker: StartWorker, client: redis.Redis) -> None:
    for _ in range(200):
        put_message(client, message_timestamp=int(time.time() * 1000) - 60_000)
    with start_worker(poll_seconds=30):
        eventually(lambda: not client.hlen(f"{QUEUE}.msgs"), "the queue is empty")
        assert broker.service.runtime.runner.activity.snapshot().get("not_due", 0) == 0


def test_a_stage_that_cannot_be_claimed_is_not_tried_in_a_tight_loop(start_worker: StartWorker) -> None:
    created = create("content_calendar")
    with transaction():
        execute("UPDATE runs SET snapshot = '{}' WHERE id = %(id)s", id=created.run.id)
    with start_worker(poll_seconds=0.2):
        activity = broker.service.runtime.runner.activity
        eventually(lambda: activity.snapshot().get("claims_crashed", 0) >= 3, "three tries")
        began, before = time.monotonic(), activity.snapshot()["claims_crashed"]
        eventually(lambda: activity.snapshot()["claims_crashed"] >= before + 4, "four more")
        assert time.monotonic() - began > 0.6


def test_while_the_provider_is_paused_nothing_is_handed_out(start_worker: StartWorker) -> None:
    runs = [create("content_calendar").run.id for _ in range(50)]
    with transaction():
        execute("INSERT INTO providers (name, paused_at) VALUES ('offline', now())")
    with start_worker(poll_seconds=0.1):
        smoke = wait_until_still(create("smoke").run.id)
        counters = broker.service.runtime.runner.activity.snapshot()
    assert smoke.status == "completed"
    assert counters["claimed"] == 1
    assert counters.get("not_due", 0) == 0
    assert {queries.get_run(run).status for run in runs} == {"queued"}
