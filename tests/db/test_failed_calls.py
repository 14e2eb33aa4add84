"""What a failed call leaves: the text it broke off and the tokens it cost; and the note on an artifact."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.db.attempts import OVERLOADED, WORKER, claimed
from tests.db.stages import expire_leases, make_due
from tests.support.runs import create
from vm_webapp.access.actor import Actor
from vm_webapp.llm.base import Completion
from vm_webapp.runs import lifecycle, queries
from vm_webapp.runs.states import Failure

pytestmark = pytest.mark.usefixtures("database")

TEXT = Completion("# A document", "kimi", "k", 10, 20)
BROKEN = Failure("llm_overloaded", "HTTP 503", permanent=False)


def test_what_a_failed_call_had_written_and_cost_stays_with_the_attempt() -> None:
    created = create()
    torso = Failure("llm_interrupted", "cut", False, partial_text="# Half", prompt_tokens=30, completion_tokens=7)
    long = replace(torso, permanent=True, partial_text="x" * 20_001, completion_tokens=2**31 - 1)
    assert lifecycle.fail_attempt_if_held(claimed(created.stage_id), torso, jitter=0) == "retrying"
    make_due()
    assert lifecycle.fail_attempt_if_held(claimed(created.stage_id), long, jitter=0) == "failed"
    told = {event.type: event.data for event in queries.list_events(created.run.id, after=0, limit=50)}
    retry, failed = told["stage.retry_scheduled"], told["stage.failed"]
    assert (retry["partial_text"], retry["partial_text_cut"]) == ("# Half", False)
    assert (failed["partial_text"], failed["partial_text_cut"]) == ("x" * 20_000, True)
    assert "partial_text" not in told["run.failed"]
    run = queries.get_run(created.run.id)
    assert (run.usage.prompt_tokens, run.usage.completion_tokens) == (60, 2**31 - 1)  # the most that the column holds
    assert run.stages[0].usage == run.usage
    assert (run.stages[0].artifact, queries.list_artifacts(run.id)) == (None, [])


def test_tokens_of_failed_calls_and_of_versions_are_added_up() -> None:
    created = create()
    excused = replace(OVERLOADED, prompt_tokens=1, completion_tokens=2)
    assert lifecycle.fail_attempt_if_held(claimed(created.stage_id), excused, jitter=0) == "retrying"
    make_due()
    assert lifecycle.finish_stage_if_held(claimed(created.stage_id), TEXT, WORKER, next_token=None)
    usage = queries.get_run(created.run.id).usage
    assert (usage.prompt_tokens, usage.completion_tokens) == (11, 22)
    (event,) = [e for e in queries.list_events(created.run.id, after=0, limit=50) if "retry" in e.type]
    assert not event.data.keys() & {"partial_text", "partial_text_cut"}


def test_a_late_failure_of_a_lost_attempt_counts_no_tokens() -> None:
    created = create()
    held = claimed(created.stage_id)
    expire_leases()
    lifecycle.rescue_expired_leases()
    assert lifecycle.fail_attempt_if_held(held, replace(BROKEN, prompt_tokens=9), jitter=0) is None
    assert queries.get_run(created.run.id).usage.prompt_tokens == 0


@pytest.mark.parametrize(
    ("workflow", "type"), [("content_calendar", "stage.completed"), ("landing_page", "approval.requested")]
)
def test_a_note_is_stored_with_the_artifact_and_announced_with_it(workflow: str, type: str) -> None:
    created = create(workflow)
    lifecycle.finish_stage_if_held(claimed(created.stage_id), replace(TEXT, note="cut"), WORKER, next_token=None)
    (artifact,) = queries.list_artifacts(created.run.id)
    assert artifact.note == "cut"
    (event,) = [e for e in queries.list_events(created.run.id, after=0, limit=50) if e.type == type]
    assert event.data["note"] == "cut"


def test_a_fork_takes_the_note_over_and_not_the_cost() -> None:
    created = create()
    torso = replace(BROKEN, prompt_tokens=5, completion_tokens=5)
    assert lifecycle.fail_attempt_if_held(claimed(created.stage_id), torso, jitter=0) == "retrying"
    make_due()
    lifecycle.finish_stage_if_held(claimed(created.stage_id), replace(TEXT, note="cut"), WORKER, next_token=None)
    fork = lifecycle.fork_run(created.run.id, from_stage="calendar", request=None, actor=Actor("ann"))
    (artifact,) = queries.list_artifacts(fork.id)
    assert artifact.note == "cut"
    assert (fork.usage.prompt_tokens, fork.usage.completion_tokens) == (0, 0)
