"""What ``actors/`` relies on in Dramatiq. If an upgrade of Dramatiq breaks one of these, change ``actors/`` first."""

from __future__ import annotations

import inspect
import time
from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import pytest
import redis
from dramatiq import Worker, cli, get_broker
from dramatiq.broker import Broker
from dramatiq.brokers.redis import RedisBroker
from dramatiq.message import Message
from dramatiq.middleware import Middleware

from actors import broker, execute_stage

QUEUE = "stages"


@pytest.fixture
def stock(redis_url: str) -> Iterator[RedisBroker]:
    """Dramatiq's own broker on the same Redis."""
    with redis.Redis.from_url(redis_url) as client:
        yield RedisBroker(client=client, namespace="contract", middleware=[])


def hint() -> Message[None]:
    """Return a hint as the actor makes it."""
    message: Message[None] = execute_stage.message(str(uuid4()))
    return message


def test_a_consumer_with_a_timeout_of_zero_never_sleeps(stock: RedisBroker) -> None:
    consumer = stock.consume(QUEUE, prefetch=1, timeout=0)
    began = time.monotonic()
    for _ in range(50):
        assert next(consumer) is None
    assert time.monotonic() - began < 2.0


def test_prefetch_and_the_outstanding_count_bound_what_is_fetched(stock: RedisBroker) -> None:
    for _ in range(5):
        stock.enqueue(hint())
    consumer = stock.consume(QUEUE, prefetch=1, timeout=0)
    assert next(consumer) is not None
    assert next(consumer) is None
    consumer.prefetch = consumer.outstanding_message_count + 2  # type: ignore[attr-defined]
    assert next(consumer) is not None
    assert consumer.outstanding_message_count == 3  # type: ignore[attr-defined]


def test_what_was_fetched_is_listed_as_unacknowledged_under_the_brokers_id(stock: RedisBroker) -> None:
    stock.enqueue(hint())
    message = next(consumer := stock.consume(QUEUE, prefetch=1, timeout=0))
    assert message is not None
    acks = f"contract:__acks__.{stock.broker_id}.{QUEUE}"
    bodies = f"contract:{QUEUE}.msgs"
    client: Any = stock.client
    (id,) = client.smembers(acks)
    assert id.decode() == message.options["redis_message_id"]
    assert Message.decode(client.hget(bodies, id)).args == message.args
    consumer.ack(message)
    assert (client.scard(acks), client.hlen(bodies)) == (0, 0)


def test_requeued_messages_come_back(stock: RedisBroker) -> None:
    stock.enqueue(hint())
    consumer = stock.consume(QUEUE, prefetch=1, timeout=0)
    message = next(consumer)
    assert message is not None
    consumer.requeue([message])
    assert next(stock.consume(QUEUE, prefetch=1, timeout=0)) is not None


def test_a_worker_reads_its_prefetch_after_before_worker_boot_and_names_its_threads() -> None:
    started = inspect.getsource(Worker.start)
    assert started.index("worker_boot") < started.index("_add_worker")
    worker = Worker(broker, worker_threads=3)
    assert (worker.worker_threads, worker.workers, worker.consumers) == (3, [], {})
    assert isinstance(worker.queue_prefetch, int)


def test_drain_hooks_run_before_threads_are_stopped() -> None:
    stopped = inspect.getsource(Worker.stop)
    assert stopped.index('emit_before("worker_shutdown"') < stopped.index("thread.stop()")
    assert stopped.index("thread.stop()") < stopped.index('emit_after("worker_shutdown"')


class Failing(Middleware):
    """Raises an error before a worker's boot and after its shutdown."""

    def __init__(self, error: BaseException) -> None:
        self._error = error

    def before_worker_boot(self, broker: Broker, worker: Worker) -> None:
        raise self._error

    def after_worker_shutdown(self, broker: Broker, worker: Worker) -> None:
        raise self._error


def test_what_a_middleware_raises_is_swallowed_unless_it_is_an_exit() -> None:
    swallowing = Broker(middleware=[Failing(ValueError("swallowed"))])
    swallowing.emit_before("worker_boot", None)
    swallowing.emit_after("worker_shutdown", None)
    exiting = Broker(middleware=[Failing(SystemExit(2))])
    with pytest.raises(SystemExit):
        exiting.emit_before("worker_boot", None)
    with pytest.raises(SystemExit):
        exiting.emit_after("worker_shutdown", None)


def test_the_stock_command_has_its_handlers_before_it_boots_and_lets_an_exit_of_the_shutdown_through() -> None:
    process = inspect.getsource(cli.worker_process)
    assert process.index("signal.signal(signal.SIGTERM, termhandler)") < process.index("worker.start()")
    assert "signal.signal(signal.SIGHUP, termhandler)" in process
    assert "return sys.exit(RET_KILLED)" in process  # what its handler does when it is called again
    after_the_loop = process.partition("while running:")[2]
    assert "worker.stop(" in after_the_loop
    assert "try" not in after_the_loop


def test_the_actors_module_sets_the_broker_and_declares_one_queue_without_a_delay_queue() -> None:

    assert get_broker() is broker
    assert broker.get_declared_queues() == {QUEUE}
    assert broker.get_declared_delay_queues() == set()
    assert execute_stage.actor_name == "execute_stage"
