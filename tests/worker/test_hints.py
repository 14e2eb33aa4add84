"""Messages in the hint queue that are not hints, or are out of date."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast
from uuid import uuid4

import pytest
import redis
from dramatiq.brokers.redis import RedisBroker

from actors import broker, execute_stage
from actors.dramatiq_queue import EXPIRE_SECONDS
from actors.hints import HintQueue, HintSender
from actors.redis_clock import READ_EVERY_SECONDS, RedisClock
from tests.support.redis_users import set_user
from tests.support.runs import create, lost_hints, wait_until_still
from tests.support.waiting import eventually
from tests.worker.conftest import StartWorker
from vm_webapp.execution.claiming import Claimer
from vm_webapp.fleet.installation import find_fingerprint
from vm_webapp.redis_keys import hints_of, namespace_of
from vm_webapp.runs.lifecycle import ClaimedStages

QUEUE = "vm:stages"


@pytest.fixture
def client(redis_url: str) -> Iterator[redis.Redis]:
    """A client of the same Redis."""
    with redis.Redis.from_url(redis_url) as connected:
        yield connected


def put_in_queue(client: redis.Redis, body: bytes, id: str = "") -> None:
    """Put bytes into Dramatiq's queue as if they were a message."""
    id = id or str(uuid4())
    client.hset(f"{QUEUE}.msgs", id, body.decode("latin-1"))
    client.rpush(QUEUE, id)


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


INVALID: tuple[tuple[bytes | dict[str, Any], str], ...] = (
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
    ({"kwargs": []}, "hint.malformed"),
    ({"message_timestamp": "yesterday"}, "hint.malformed"),
    ({"message_timestamp": 10**400}, "hint.malformed"),
    ({"message_timestamp": float("nan")}, "hint.malformed"),
    ({"message_timestamp": True}, "hint.malformed"),
    ({"actor_name": ["x"]}, "hint.unknown_actor"),
)


@contextmanager
def after_the_only_poll(start_worker: StartWorker, **settings: Any) -> Iterator[None]:
    """Run a worker that has polled, and polls again only after the test."""
    with lost_hints():
        found_by_the_poll = create("smoke").run
    with start_worker(poll_seconds=30, **settings):
        wait_until_still(found_by_the_poll.id)
        yield


@pytest.mark.parametrize("earlier", [False, True], ids=["of any program", "of the build before"])
def test_a_message_of_dramatiqs_own_broker_is_a_hint(
    start_worker: StartWorker, client: redis.Redis, earlier: bool
) -> None:
    """The build before also pushes to a list that its own workers wait on."""
    with after_the_only_poll(start_worker):
        namespace = "vm" if earlier else namespace_of(find_fingerprint() or "")
        stock = RedisBroker(client=client, namespace=namespace)  # with the middleware that it has by itself
        for _ in range(3):
            with lost_hints():
                created = create("smoke")
            stock.enqueue(execute_stage.message(str(created.stage_id)))
            if earlier:
                client.lpush("vm:bell", 1)
            assert wait_until_still(created.run.id).status == "completed"
        assert (client.llen(f"{namespace}:stages"), client.hlen(f"{namespace}:stages.msgs")) == (0, 0)


def test_what_the_build_before_has_left_expires(start_worker: StartWorker, client: redis.Redis) -> None:
    stock = RedisBroker(client=client, namespace="vm")
    stock.enqueue(execute_stage.message(str(uuid4())))
    assert next(stock.consume("stages")) is not None  # and was never acknowledged
    stock.enqueue(execute_stage.message(str(uuid4())))
    with after_the_only_poll(start_worker):
        eventually(lambda: not client.llen(QUEUE), "what waits is taken")
        keys = cast("list[bytes]", [*client.keys("vm:stages*"), *client.keys("vm:__*")])
        left = {key.decode(): client.ttl(key) for key in keys}
    assert {f"{QUEUE}.msgs", "vm:__heartbeats__", f"vm:__acks__.{stock.broker_id}.stages"} == set(left)
    assert all(0 < seconds <= EXPIRE_SECONDS for seconds in left.values()), left


def test_two_databases_on_one_redis_never_take_each_others_hints(client: redis.Redis) -> None:
    one, other = (HintQueue(client, lambda name=name: name) for name in ("one:1", "other:1"))  # type: ignore[misc]
    sent = execute_stage.message(str(uuid4()))
    assert HintSender(client, lambda: "one:1").send([sent]) == []
    assert other.take(0.01) is None
    taken = one.take(0.01)
    assert taken is not None
    assert json.loads(taken.body)["args"] == list(sent.args)
    one.put_back(taken)
    assert other.take(0.01) is None
    assert one.take(0.01) is not None


@pytest.mark.parametrize("body", [b"not json", b"[]", b"\xff", b'{"actor_name": "execute_stage"}'])
def test_what_is_no_hint_in_the_list_of_hints_is_dropped(
    client: redis.Redis, caplog: pytest.LogCaptureFixture, body: bytes
) -> None:
    client.rpush(hints_of("one:1"), body)
    assert HintQueue(client, lambda: "one:1").take(0.01) is None
    assert caplog.messages == ["hint.malformed"]
    assert not client.exists(hints_of("one:1"))


@pytest.mark.parametrize(("message", "logged"), INVALID, ids=lambda value: str(value)[:50])
def test_an_invalid_message_is_logged_once_and_removed(
    start_worker: StartWorker,
    client: redis.Redis,
    caplog: pytest.LogCaptureFixture,
    message: bytes | dict[str, Any],
    logged: str,
) -> None:
    caplog.set_level("INFO")
    with start_worker(poll_seconds=30):
        if isinstance(message, bytes):
            put_in_queue(client, message)
        else:
            put_message(client, **message)
        eventually(lambda: logged in caplog.messages, f"{logged} is logged")
        assert wait_until_still(create("smoke").run.id).status == "completed"
        eventually(lambda: not client.hlen(f"{QUEUE}.msgs"), "no message is left to be redelivered")
    assert caplog.messages.count(logged) == 1


def test_a_hint_with_an_eta_takes_no_slot(start_worker: StartWorker, client: redis.Redis) -> None:
    with start_worker(poll_seconds=30, worker_threads=1):
        id = str(uuid4())
        put_message(client, options={"redis_message_id": id, "eta": 9e15})
        assert wait_until_still(create("smoke").run.id).status == "completed"


@pytest.fixture
def polls(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """For how many slots the worker has polled, poll by poll."""
    asked: list[int] = []
    claim = Claimer.claim

    def claim_and_count(claimer: Claimer, at_most: int) -> ClaimedStages:
        asked.append(at_most)
        return claim(claimer, at_most)

    monkeypatch.setattr(Claimer, "claim", claim_and_count)
    return asked


def test_old_hints_are_dropped_without_a_query(
    start_worker: StartWorker, client: redis.Redis, polls: list[int]
) -> None:
    for _ in range(200):
        put_message(client, message_timestamp=int(time.time() * 1000) - 60_000)
    with start_worker(poll_seconds=30):
        eventually(lambda: not client.hlen(f"{QUEUE}.msgs"), "the queue is empty")
        assert polls == [4]


def test_hints_that_a_poll_has_answered_cause_no_further_query(
    start_worker: StartWorker, client: redis.Redis, polls: list[int]
) -> None:
    for _ in range(200):
        put_message(client, message_timestamp=int(time.time() * 1000) - 1000)
    with start_worker(poll_seconds=30):
        eventually(lambda: not client.hlen(f"{QUEUE}.msgs"), "the queue is empty")
        assert polls == [4]


def test_a_hint_makes_the_worker_claim_in_the_order_of_the_queue(
    start_worker: StartWorker, client: redis.Redis
) -> None:
    with start_worker(poll_seconds=30, worker_threads=1):
        wait_until_still(create("smoke").run.id)
        with lost_hints():
            older, younger = create("smoke"), create("smoke")
        put_message(client, args=[str(younger.stage_id)])
        assert wait_until_still(older.run.id).started_at < wait_until_still(younger.run.id).started_at  # type: ignore[operator]


@pytest.mark.parametrize("seconds", [-3600, -11, 3600])
def test_a_hint_of_a_machine_whose_clock_is_wrong_arrives(start_worker: StartWorker, seconds: int) -> None:
    with after_the_only_poll(start_worker):
        with lost_hints():
            created = create("smoke")
        now = int(time.time() * 1000)
        broker.enqueue(execute_stage.message(str(created.stage_id)).copy(message_timestamp=now + seconds * 1000))
        assert wait_until_still(created.run.id).status == "completed"


def test_the_clock_of_redis_is_read_once_and_is_old_after_ten_seconds(client: redis.Redis) -> None:
    at = 100.0
    clock = RedisClock(client, lambda: at)
    assert [clock.is_old] == [True]
    assert clock.now() == pytest.approx(time.time(), abs=1)
    reads = calls_of(client, "time")
    at += READ_EVERY_SECONDS - 1
    assert [clock.is_old] == [False]
    assert clock.now() == pytest.approx(time.time() + READ_EVERY_SECONDS - 1, abs=1)
    at += 1
    assert [clock.is_old] == [True]
    clock.now()
    assert calls_of(client, "time") == reads
    clock.read()
    assert clock.now() == pytest.approx(time.time(), abs=1)
    assert calls_of(client, "time") == reads + 1


def calls_of(client: redis.Redis, command: str) -> int:
    """Return how often Redis has run a command."""
    found: dict[str, Any] = client.info("commandstats")
    return int(found[f"cmdstat_{command}"]["calls"])


def test_a_user_without_channels_still_gets_hints(start_worker: StartWorker, redis_url: str) -> None:
    """Each event of a run has its notice refused, right before or behind the hint of the next stage."""
    without_channels = set_user(redis_url, "channelless", ["~*", "+@all", "resetchannels"])
    with after_the_only_poll(start_worker, redis=without_channels):
        failed = broker.hints_failed
        runs = [create("smoke").run for _ in range(10)]
        for run in runs:
            assert wait_until_still(run.id).status == "completed"
        assert broker.hints_failed > failed
