"""The mark by which open pages learn that something has changed: it differs after every change, and never returns."""

from __future__ import annotations

import threading
from uuid import UUID

import pytest

from tests.db.stages import pause_provider
from tests.support.actors import OPERATOR
from tests.support.runs import create
from vm_webapp.db.pool import execute, transaction
from vm_webapp.ops import queue_control
from vm_webapp.runs import queries

pytestmark = pytest.mark.usefixtures("database")

ADD_EVENT = "INSERT INTO events (run_id, type, actor, data) VALUES (%(run_id)s, 'run.created', 'ann', '{}')"


def test_it_stays_while_nothing_changes() -> None:
    assert queries.read_mark() == queries.read_mark()
    create()
    assert queries.read_mark() == queries.read_mark()


def test_a_pause_that_has_ended_before_the_next_look_is_seen() -> None:
    queue_control.pause_queue(reason=None, actor=OPERATOR)
    queue_control.resume_queue(actor=OPERATOR)
    pause_provider("kimi", until=None)
    queue_control.resume_provider("kimi", actor=OPERATOR)
    before = queries.read_mark()
    queue_control.pause_queue(reason="we move house", actor=OPERATOR)
    queue_control.resume_queue(actor=OPERATOR)
    between = queries.read_mark()
    assert between != before
    pause_provider("kimi", until=None)
    queue_control.resume_provider("kimi", actor=OPERATOR)
    assert queries.read_mark() not in (before, between)


def test_another_reason_of_the_same_pause_is_seen() -> None:
    queue_control.pause_queue(reason="we move house", actor=OPERATOR)
    before = queries.read_mark()
    queue_control.pause_queue(reason="we have moved", actor=OPERATOR)
    assert queries.read_mark() != before


def test_an_event_that_commits_after_a_newer_one_is_seen() -> None:
    run_id = create().run.id
    added, go_on = threading.Event(), threading.Event()

    def commit_late(run_id: UUID) -> None:
        with transaction():
            execute(ADD_EVENT, run_id=run_id)
            added.set()
            assert go_on.wait(10)

    late = threading.Thread(target=commit_late, args=(run_id,))
    late.start()
    assert added.wait(10)
    create()
    before = queries.read_mark()
    go_on.set()
    late.join()
    assert queries.read_mark() != before
