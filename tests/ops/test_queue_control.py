"""The queue's figures for operators, and the commands that pause and resume claiming."""

from __future__ import annotations

from uuid import uuid4

import pytest

from tests.support.actors import OPERATOR
from tests.support.fleet import beat
from tests.support.runs import create, read
from vm_webapp.access.actor import Actor
from vm_webapp.db.pool import execute, jsonb, transaction
from vm_webapp.errors import NotFound
from vm_webapp.ops import queue_control
from vm_webapp.runs import lifecycle
from vm_webapp.runs.due import find_due
from vm_webapp.runs.lifecycle import Claimant

pytestmark = pytest.mark.usefixtures("database")


def test_an_empty_queue_without_workers_wants_one() -> None:
    status = queue_control.read_queue()
    assert (status.queued, status.running, status.due, status.oldest_due_seconds) == (0, 0, 0, 0.0)
    assert (status.workers, status.slots, status.desired_workers, status.paused) == (0, 0, 1, False)


def test_only_due_stages_and_working_workers_are_counted_as_such() -> None:
    first, later, running = create(), create(), create()
    lifecycle.claim_stage(running.stage_id, Claimant(uuid4(), "kimi"), token=uuid4())
    with transaction():
        execute("UPDATE stages SET available_at = now() + interval '1 h' WHERE id = %(id)s", id=later.stage_id)
        execute("UPDATE stages SET available_at = now() - interval '9 s' WHERE id = %(id)s", id=first.stage_id)
    beat(in_flight=1)
    beat("draining", in_flight=3)
    status = queue_control.read_queue()
    assert (status.queued, status.running, status.due) == (2, 1, 1)
    assert 9 <= status.oldest_due_seconds < 15
    assert (status.workers, status.slots, status.in_flight) == (1, 4, 1)


@pytest.mark.parametrize(
    ("work", "cap", "wanted"),
    [(0, None, 1), (4, None, 1), (5, None, 2), (39, None, 10), (100, None, 10), (100, 8, 2), (3, 100, 1)],
)
def test_no_more_workers_are_wanted_than_the_cap_lets_work(work: int, cap: int | None, wanted: int) -> None:
    beat(cap=cap)
    for _ in range(work):
        create()
    assert queue_control.read_queue().desired_workers == wanted
    for running in range(min(2, work)):
        stage = read("SELECT id FROM stages WHERE status = 'queued' ORDER BY run_id LIMIT 1")[0]["id"]
        assert lifecycle.claim_stage(stage, Claimant(uuid4(), "kimi", cap), token=uuid4()), running
    assert queue_control.read_queue().desired_workers == wanted


def test_a_paused_queue_has_no_due_stages_until_it_is_resumed() -> None:
    create()
    queue_control.pause_queue(reason="a bad prompt", actor=Actor("ops"))
    status = queue_control.read_queue()
    assert (status.paused, status.paused_by, status.reason) == (True, "ops", "a bad prompt")
    assert find_due("kimi", 1, cap=None).ids == ()
    assert queue_control.resume_queue(actor=OPERATOR)
    assert len(find_due("kimi", 1, cap=None).ids) == 1
    assert not queue_control.resume_queue(actor=OPERATOR)


def test_pausing_again_keeps_the_time_of_the_first_pause() -> None:
    queue_control.pause_queue(reason="first", actor=Actor("one"))
    since = queue_control.read_queue().paused_at
    queue_control.pause_queue(reason=None, actor=Actor("two"))
    status = queue_control.read_queue()
    assert (status.paused_at, status.paused_by, status.reason) == (since, "one", "first")


def test_a_new_reason_replaces_the_old_one_with_its_author() -> None:
    queue_control.pause_queue(reason="first", actor=Actor("one"))
    since = queue_control.read_queue().paused_at
    queue_control.pause_queue(reason="second", actor=Actor("two"))
    status = queue_control.read_queue()
    assert (status.paused_at, status.paused_by, status.reason) == (since, "two", "second")


def test_a_provider_is_resumed_once_and_an_unknown_name_is_refused_with_the_known_ones() -> None:
    with transaction():
        execute(
            "INSERT INTO providers (name, paused_at, reason) VALUES ('kimi', now(), %(reason)s)",
            reason=jsonb({"code": "llm_unauthorized", "message": "revoked"}),
        )
    assert queue_control.resume_provider("kimi", actor=OPERATOR)
    assert not queue_control.resume_provider("kimi", actor=OPERATOR)
    assert read("SELECT paused_at, reason FROM providers") == [{"paused_at": None, "reason": None}]
    with pytest.raises(NotFound, match="there are: kimi"):
        queue_control.resume_provider("kimmi", actor=OPERATOR)


def test_workers_that_are_alive_come_first() -> None:
    stopped, alive = beat("stopped"), beat()
    first, second = queue_control.list_workers()
    assert (first.worker_id, first.fresh, first.state) == (alive.worker_id, True, "working")
    assert (second.worker_id, second.fresh) == (stopped.worker_id, False)
    assert second.stopped_at is not None
