"""What ``actors/`` relies on in Dramatiq. If an upgrade of Dramatiq breaks one of these, change ``actors/`` first."""

from __future__ import annotations

import inspect
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


def test_a_message_is_named_in_a_list_and_lies_in_a_hash(stock: RedisBroker) -> None:
    sent = stock.enqueue(hint())
    client: Any = stock.client
    (id,) = client.lrange(f"contract:{QUEUE}", 0, -1)
    assert id.decode() == sent.options["redis_message_id"]
    assert Message.decode(client.hget(f"contract:{QUEUE}.msgs", id)).args == sent.args
    stock.flush_all()


def test_what_was_fetched_is_listed_as_unacknowledged_under_the_brokers_id(stock: RedisBroker) -> None:
    stock.enqueue(hint())
    message = next(consumer := stock.consume(QUEUE, prefetch=1, timeout=0))
    assert message is not None
    client: Any = stock.client
    (id,) = client.smembers(f"contract:__acks__.{stock.broker_id}.{QUEUE}")
    assert id.decode() == message.options["redis_message_id"]
    (worker,) = client.zrangebyscore("contract:__heartbeats__", 0, "+inf")
    assert worker.decode() == stock.broker_id
    consumer.ack(message)


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
