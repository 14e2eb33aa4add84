"""How work reaches a worker's threads: by hints and by polling, with Redis and without."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection
from uuid import UUID, uuid4

import pytest

from actors import execute_stage
from actors.consumer import LONGEST_WAIT_SECONDS, FeedingConsumer
from tests.fakes.behaviours import delayed
from tests.fakes.model_server import ModelServer
from tests.support.runs import create, lost_hints, wait_until_still
from tests.support.waiting import eventually
from tests.worker.conftest import StartWorker, runtime
from vm_webapp.db.pool import execute, transaction
from vm_webapp.runs import queries
from vm_webapp.runs.due import DueStages


def test_a_hint_starts_an_idle_worker_long_before_its_next_poll(start_worker: StartWorker) -> None:
    with start_worker(poll_seconds=30):
        wait_until_still(create("smoke").run.id, seconds=5)
        began = time.monotonic()
        for _ in range(10):
            assert wait_until_still(create("smoke").run.id, seconds=5).status == "completed"
        assert time.monotonic() - began < 5


def test_a_lost_hint_is_found_by_polling(start_worker: StartWorker) -> None:
    with start_worker(poll_seconds=0.1), lost_hints():
        assert wait_until_still(create("smoke").run.id).status == "completed"


def test_work_goes_on_without_redis(start_worker: StartWorker) -> None:
    with start_worker(redis=None, poll_seconds=0.1):
        runs = [create("smoke").run.id for _ in range(20)]
        assert {wait_until_still(run).status for run in runs} == {"completed"}


def test_work_goes_on_when_redis_cannot_be_reached(start_worker: StartWorker) -> None:
    with start_worker(redis="redis://127.0.0.1:1/0", poll_seconds=0.1):
        assert wait_until_still(create("smoke").run.id).status == "completed"


def test_a_backlog_is_executed_oldest_first_within_the_slots(start_worker: StartWorker) -> None:
    runs = [create("content_calendar").run.id for _ in range(12)]
    with ModelServer(lambda body: delayed(0.1)) as model:
        settings = {"kimi_api_key": "sk-k", "kimi_base_url": model.base_url, "worker_threads": 2}
        with start_worker(**settings, poll_seconds=30):
            finished = [wait_until_still(run) for run in runs]
        assert model.most_in_flight == 2
    assert all(run.status == "completed" for run in finished)
    started = [run.started_at.timestamp() for run in finished if run.started_at]
    # With two threads, two neighbours may start in either order, but no run overtakes two.
    assert all(earlier < later for earlier, later in zip(started, started[2:], strict=False))


class Queue:
    """A work source with one due stage, then none, that always reports more, and calls ``meanwhile`` in each query."""

    takes_work = True
    poll_seconds = 0.5

    def __init__(self) -> None:
        self.meanwhile: Callable[[], object] = lambda: None
        self.asked_at: list[float] = []

    def find_due(self, limit: int, *, without: Collection[UUID]) -> DueStages:
        """Return a stage for the first query, none later."""
        self.asked_at.append(time.monotonic())
        self.meanwhile()
        return DueStages((uuid4(),) if len(self.asked_at) == 1 else (), more=True)


class Late(threading.Condition):
    """A condition that calls a function just before a given entry, to force a race."""

    def __init__(self) -> None:
        super().__init__()
        self.before: dict[int, Callable[[], object]] = {}

    def __enter__(self) -> bool:
        """Call the function that is set for this entry; the count starts when ``before`` is set."""
        due = self.before.pop(1, None)
        self.before = {entry - 1: call for entry, call in self.before.items()}
        if due is not None:
            due()
        return super().__enter__()


def busy_consumer(queue: Queue, freed: Late) -> tuple[FeedingConsumer, Callable[[], None]]:
    """Return a consumer with one of its two slots taken, and a function that ends the call in that slot."""
    consumer = FeedingConsumer("stages", slots=2, hints=None, wake_list=None, work=queue, freed=freed)
    message = next(consumer)
    assert message is not None
    return consumer, lambda: consumer.ack(message)


def test_a_call_that_ends_just_before_the_consumer_waits_is_noticed() -> None:
    freed = Late()
    consumer, end_call = busy_consumer(Queue(), freed)
    consumer.poll_once()
    freed.before = {2: end_call}  # the first entry checks for a free slot, the second waits for work
    began = time.monotonic()
    assert next(consumer) is None
    assert time.monotonic() - began < LONGEST_WAIT_SECONDS / 2


def test_a_call_that_ends_during_a_poll_brings_the_next_poll_forward() -> None:
    queue = Queue()
    consumer, queue.meanwhile = busy_consumer(queue, Late())
    consumer.poll_once()
    next(consumer)
    assert len(queue.asked_at) == 3
    assert queue.asked_at[2] - queue.asked_at[1] < LONGEST_WAIT_SECONDS / 2


def test_low_priority_waits_for_normal_runs(start_worker: StartWorker) -> None:
    low = create("smoke", priority="low").run.id
    normal = create("smoke").run.id
    with start_worker(worker_threads=1):
        first, second = wait_until_still(normal), wait_until_still(low)
    assert first.started_at is not None
    assert second.started_at is not None
    assert first.started_at < second.started_at


def test_a_hint_for_a_finished_stage_changes_nothing(
    start_worker: StartWorker, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    with start_worker(poll_seconds=30):
        created = create("smoke")
        wait_until_still(created.run.id)
        before = queries.list_events(created.run.id, after=0, limit=50)
        execute_stage.send(str(created.stage_id))
        eventually(lambda: "hint.dropped" in caplog.messages, "the hint is dropped")
        assert queries.list_events(created.run.id, after=0, limit=50) == before


def test_a_stage_that_cannot_be_claimed_is_not_tried_in_a_tight_loop(start_worker: StartWorker) -> None:
    created = create("content_calendar")
    with transaction():
        execute("UPDATE runs SET snapshot = '{}' WHERE id = %(id)s", id=created.run.id)
    with start_worker(poll_seconds=0.2):
        activity = runtime().runner.activity
        eventually(lambda: activity.snapshot().get("claims_crashed", 0) >= 3, "three tries")
        began, before = time.monotonic(), activity.snapshot()["claims_crashed"]
        eventually(lambda: activity.snapshot()["claims_crashed"] >= before + 4, "four more")
        assert time.monotonic() - began > 0.6


def test_while_the_provider_is_paused_nothing_is_handed_out(start_worker: StartWorker) -> None:
    runs = [create("content_calendar").run.id for _ in range(50)]
    with transaction():
        execute("INSERT INTO providers (name, paused_at) VALUES ('offline', now())")
    with start_worker(poll_seconds=0.1), lost_hints():
        smoke = wait_until_still(create("smoke").run.id)
        counters = runtime().runner.activity.snapshot()
    assert smoke.status == "completed"
    assert counters["claimed"] == 1
    assert counters.get("not_due", 0) == 0
    assert {queries.get_run(run).status for run in runs} == {"queued"}
