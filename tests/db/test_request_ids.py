"""A run keeps the id of the request that created it, and every claim of its stages carries it."""

from __future__ import annotations

from uuid import uuid4

import pytest

from tests.support.runs import CATALOG, read
from tests.support.snapshots import replace_workflow
from tests.support.work import WORKER, claim_next, finish_next
from vm_webapp.access.actor import Actor
from vm_webapp.llm.base import Completion
from vm_webapp.runs import lifecycle
from vm_webapp.runs.lifecycle import NewRun
from vm_webapp.runs.records import RunRecord

pytestmark = pytest.mark.usefixtures("database")


def create_by(request_id: str | None) -> RunRecord:
    """Create a run by a request with this id."""
    return lifecycle.create_run(
        NewRun(CATALOG.get("content_calendar"), "a request"), actor=Actor("tests", request_id=request_id)
    )


@pytest.mark.parametrize("request_id", ["from-the.caller_1", None])
def test_every_kind_of_claim_carries_it(request_id: str | None) -> None:
    run = create_by(request_id)
    tokens = [uuid4(), uuid4()]
    (first,) = lifecycle.claim_due_stages(WORKER, tokens).claims
    assert first.request_id == request_id
    (found,) = lifecycle.find_claims(tokens)
    assert found.request_id == request_id
    finished = lifecycle.finish_stage_if_held(first, Completion("# T", "kimi"), WORKER, next_token=uuid4())
    assert finished is not None
    assert finished.next is not None
    assert finished.next.request_id == request_id
    assert lifecycle.release_stage_if_held(finished.next)
    assert claim_next(run.id).request_id == request_id


def test_a_fork_has_that_of_its_own_request() -> None:
    parent = create_by("the-first")
    finish_next(parent.id)
    second = read("SELECT key FROM stages WHERE run_id = %(id)s AND position = 2", id=parent.id)[0]["key"]
    actor = Actor("tests", request_id="the-second")
    fork = lifecycle.fork_run(parent.id, from_stage=second, request=None, actor=actor)
    assert claim_next(fork.id).request_id == "the-second"


def test_a_claim_that_cannot_be_read_carries_it() -> None:
    run = create_by("from-the-caller")
    replace_workflow(run.id, {})
    (unreadable,) = lifecycle.claim_due_stages(WORKER, [uuid4()]).unreadable
    assert unreadable.request_id == "from-the-caller"
