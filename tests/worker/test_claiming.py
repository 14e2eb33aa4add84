"""How work reaches a worker's threads: by hints and by polling, with Redis and without."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any, cast
from uuid import UUID, uuid4

import pytest
import redis

import actors.consumer
from actors import broker, execute_stage
from actors.consumer import LONGEST_WAIT_SECONDS, ClaimingConsumer
from tests.fakes.behaviours import delayed
from tests.fakes.model_server import ModelServer
from tests.support.runs import create, lost_hints, read, wait_until_still
from tests.support.snapshots import keep_in_a_document, replace_workflow
from tests.support.waiting import eventually
from tests.worker.conftest import StartWorker, runtime
from vm_webapp.db.pool import execute, transaction
from vm_webapp.errors import DatabaseUnavailable
from vm_webapp.execution.activity import Activity
from vm_webapp.execution.claiming import Claimer
from vm_webapp.execution.stage_runner import HAND_OVER_SECONDS
from vm_webapp.fleet.installation import find_fingerprint
from vm_webapp.redis_keys import hints_of
from vm_webapp.runs import lifecycle, queries
from vm_webapp.runs.lifecycle import Claim, Claimant, ClaimedStages


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
    """A work source with a few due stages, then none, that always reports more, and calls ``meanwhile`` in each poll.

    Args:
        due: how many the first poll finds.
    """

    takes_work = True
    poll_seconds = 0.5

    def __init__(self, due: int = 1) -> None:
        self.meanwhile: Callable[[], object] = lambda: None
        self.asked_at: list[float] = []
        self.asked_for: list[int] = []
        self._due = due

    def claim(self, at_most: int) -> ClaimedStages:
        """Return claims for the first poll, none later."""
        self.asked_at.append(time.monotonic())
        self.asked_for.append(at_most)
        self.meanwhile()
        return ClaimedStages((cast(Claim, "a claim"),) * (self._due if len(self.asked_at) == 1 else 0), more=True)

    def release(self, claims: Iterable[Claim]) -> None:
        """Release nothing."""


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


def busy_consumer(queue: Queue, freed: Late) -> tuple[ClaimingConsumer, Callable[[], None]]:
    """Return a consumer with one of its two slots taken, and a function that ends the call in that slot."""
    consumer = ClaimingConsumer("stages", slots=2, hints=None, work=queue, freed=freed)
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
    assert len(queue.asked_at) == 2
    while len(queue.asked_at) < 3:
        next(consumer)
    assert queue.asked_at[2] - queue.asked_at[1] < LONGEST_WAIT_SECONDS / 2


def test_slots_that_become_free_are_filled_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(actors.consumer, "POLL_AGAIN_SECONDS", 0.4)
    queue = Queue(due=8)
    consumer = ClaimingConsumer("stages", slots=8, hints=None, work=queue)
    calls = [message for _ in range(8) if (message := next(consumer))]
    for call in calls[:3]:
        consumer.ack(call)
    while len(queue.asked_at) < 2:
        next(consumer)
    assert queue.asked_at[1] - queue.asked_at[0] >= 0.4

    for call in calls[3:5]:  # half of them are free now, and one more at once
        consumer.ack(call)
    while len(queue.asked_at) < 3:
        next(consumer)
    assert queue.asked_at[2] - queue.asked_at[1] < 0.4
    assert queue.asked_for[-1] == 5, "what ends together is claimed together"


def test_low_priority_waits_for_normal_runs(start_worker: StartWorker) -> None:
    low = create("smoke", priority="low").run.id
    normal = create("smoke").run.id
    with start_worker(worker_threads=1):
        first, second = wait_until_still(normal), wait_until_still(low)
    assert first.started_at is not None
    assert second.started_at is not None
    assert first.started_at < second.started_at


def test_a_hint_for_a_finished_stage_changes_nothing(start_worker: StartWorker, redis_url: str) -> None:
    with start_worker(poll_seconds=30), redis.Redis.from_url(redis_url) as client:
        key = hints_of(find_fingerprint() or "")
        created = create("smoke")
        wait_until_still(created.run.id)
        before = queries.list_events(created.run.id, after=0, limit=50)
        execute_stage.send(str(created.stage_id))
        assert broker.sender.flush(5)
        eventually(lambda: not client.llen(key), "the hint is taken")
        assert queries.list_events(created.run.id, after=0, limit=50) == before


@pytest.mark.parametrize("in_a_document", [False, True])
@pytest.mark.parametrize("workflow", [{}, 7, {"stages": [{"key": "strategy", "timeout_seconds": "a while"}]}])
def test_a_stage_that_this_build_cannot_read_is_left_to_others(
    start_worker: StartWorker, caplog: pytest.LogCaptureFixture, workflow: object, in_a_document: bool
) -> None:
    created = create("content_calendar")
    replace_workflow(created.run.id, workflow)
    if in_a_document:
        keep_in_a_document(created.run.id)
    with start_worker(poll_seconds=0.1):
        for _ in range(5):
            assert wait_until_still(create("smoke").run.id).status == "completed"
        eventually(lambda: statuses_of(created.run.id)[0] == "queued", "it is released")
        assert runtime().runner.activity.snapshot()["claims_crashed"] == 1
    assert caplog.messages.count("claim.crashed") == 1


def statuses_of(run_id: UUID) -> list[str]:
    """Return the statuses of a run's stages."""
    return [
        stage["status"]
        for stage in read("SELECT status FROM stages WHERE run_id = %(id)s ORDER BY position", id=run_id)
    ]


def test_claims_that_no_thread_began_are_released_by_a_drain(start_worker: StartWorker) -> None:
    with lost_hints():
        created = create("smoke")
    (held,) = lifecycle.claim_due_stages(Claimant(uuid4(), "offline"), [uuid4()]).claims
    with start_worker():
        runtime().runner.draining.set()
        assert runtime().run_stage(held) == 0
        assert statuses_of(created.run.id) == ["queued"]


def test_a_claim_that_no_thread_took_in_time_is_released(start_worker: StartWorker) -> None:
    with lost_hints():
        created = create("content_calendar")
    (held,) = lifecycle.claim_due_stages(Claimant(uuid4(), "offline"), [uuid4()]).claims
    with start_worker(poll_seconds=30):
        late = replace(held, made_at=time.monotonic() - HAND_OVER_SECONDS)
        assert runtime().run_stage(late) == 0
        assert statuses_of(created.run.id)[0] == "queued"


def test_a_claim_whose_result_never_arrived_is_found_again(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with lost_hints():
        stages = [create("content_calendar").stage_id for _ in range(3)]
    claim = lifecycle.claim_due_stages

    def claim_and_lose_the_connection(*arguments: Any, **options: Any) -> ClaimedStages:
        claim(*arguments, **options)
        raise DatabaseUnavailable("the connection broke")

    claimer = Claimer(Claimant(uuid4(), "offline"), Activity())
    with monkeypatch.context() as broken:
        broken.setattr(lifecycle, "claim_due_stages", claim_and_lose_the_connection)
        with pytest.raises(DatabaseUnavailable):
            claimer.claim(2)
    assert [held.stage_id for held in claimer.claim(2).claims] == stages[:2]
    assert [held.stage_id for held in claimer.claim(2).claims] == stages[2:]


def test_while_the_provider_is_paused_nothing_is_handed_out(start_worker: StartWorker) -> None:
    runs = [create("content_calendar").run.id for _ in range(50)]
    with transaction():
        execute("INSERT INTO providers (name, paused_at) VALUES ('offline', now())")
    with start_worker(poll_seconds=0.1), lost_hints():
        smoke = wait_until_still(create("smoke").run.id)
        counters = runtime().runner.activity.snapshot()
    assert smoke.status == "completed"
    assert counters["claimed"] == 1
    assert {queries.get_run(run).status for run in runs} == {"queued"}
