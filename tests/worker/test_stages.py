"""A worker executes runs with a model: what it sends and stores, and how it fails and retries."""

from __future__ import annotations

import threading
from datetime import UTC
from typing import Any
from uuid import UUID

from tests.fakes.behaviours import Behaviour, completion, dropped, held, refusal, truncated
from tests.fakes.model_server import ModelServer
from tests.support.actors import OPERATOR
from tests.support.runs import create, read, types, wait_until_still
from tests.support.waiting import eventually
from tests.worker.conftest import StartWorker, kimi
from vm_webapp.access.actor import Actor
from vm_webapp.context import brands, projects
from vm_webapp.runs import lifecycle, queries


def user_message(model: ModelServer, number: int) -> str:
    """Return the prompt of one request."""
    return str(model.requests[number].body["messages"][1]["content"])


def test_three_stages_go_through_the_model_to_completed(start_worker: StartWorker, model: ModelServer) -> None:
    model.enqueue(completion("# What we found"), completion("# What we chose"), completion("# What we do"))
    with start_worker(**kimi(model)):
        run_id = create("plan_90d", "90 days for a CRM for dental clinics", auto_approve=True).run.id
        run = wait_until_still(run_id)
    assert run.status == "completed"
    assert run.progress.completed == 3
    assert [stage.provider for stage in run.stages] == ["kimi"] * 3
    assert run.usage.completion_tokens > 0
    assert {key: artifact.content for key, artifact in queries.newest_artifacts(run_id).items()} == {
        "research": "# What we found",
        "strategy": "# What we chose",
        "plan": "# What we do",
    }
    assert "CRM for dental clinics" in user_message(model, 0)
    assert "# What we found" in user_message(model, 1)
    assert "# What we chose" in user_message(model, 2)


def test_prompts_have_brand_and_project_as_they_were_at_creation(start_worker: StartWorker, model: ModelServer) -> None:
    brand = brands.create(
        {"name": "Crumb & Co", "voice": "warm, brief", "forbidden_words": ["artisanal"]}, actor=OPERATOR
    )
    project = projects.create(
        {"name": "Winter", "objective": "200 subscriptions", "channels": ["newsletter"]}, actor=OPERATOR
    )
    created = create("content_calendar", brand_id=brand.id, project_id=project.id)
    brands.change(brand.id, {"voice": "pompous"}, version=1, actor=OPERATOR)
    with start_worker(**kimi(model), poll_seconds=0.1):
        wait_until_still(created.run.id)
    for number in range(2):
        prompt = user_message(model, number)
        assert all(text in prompt for text in ("Crumb & Co", "warm, brief", "artisanal", "200 subscriptions"))
        assert "pompous" not in prompt


def test_the_runs_next_stages_need_neither_a_hint_nor_a_poll(start_worker: StartWorker, model: ModelServer) -> None:
    with start_worker(**kimi(model), poll_seconds=60):
        run_id = create("plan_90d", auto_approve=True).run.id
        assert wait_until_still(run_id, seconds=10).status == "completed"


def test_a_review_stops_the_run_with_its_draft(start_worker: StartWorker, model: ModelServer) -> None:
    with start_worker(**kimi(model)):
        run = wait_until_still(create("foundation").run.id)
    assert run.status == "waiting_approval"
    assert [stage.status for stage in run.stages[:3]] == ["completed", "waiting_approval", "pending"]
    assert run.stages[1].artifact is not None


def test_a_broken_stream_is_retried(start_worker: StartWorker, model: ModelServer) -> None:
    model.enqueue(dropped())
    with start_worker(**kimi(model)):
        run_id = create("content_calendar").run.id
        eventually(lambda: "stage.retry_scheduled" in types(run_id), "a retry is scheduled")
        assert wait_until_still(run_id).status == "completed"
    (retry,) = [event.data for event in queries.list_events(run_id, after=0, limit=50) if "retry" in event.type]
    assert retry["code"] == "llm_connection_error"
    assert retry["counted"] is True
    assert 1.0 <= retry["delay_seconds"] <= 2.0
    assert retry["retry_at"]


def test_a_permanent_refusal_fails_the_run_with_its_reason(start_worker: StartWorker, model: ModelServer) -> None:
    model.enqueue(refusal(400, "invalid_request_error", "max_tokens is too large"))
    with start_worker(**kimi(model)):
        run = wait_until_still(create("content_calendar").run.id)
    assert run.status == "failed"
    assert run.error is not None
    assert run.error.code == "llm_bad_request"
    assert "max_tokens is too large" in run.error.message
    assert len(model.requests) == 1


def test_a_truncated_artifact_is_marked(start_worker: StartWorker, model: ModelServer) -> None:
    model.enqueue(truncated())
    with start_worker(**kimi(model)):
        run_id = create("content_calendar").run.id
        wait_until_still(run_id)
    assert [artifact.truncated for artifact in queries.list_artifacts(run_id)] == [True, False]


def test_the_next_stage_is_told_that_an_artifact_breaks_off(start_worker: StartWorker, model: ModelServer) -> None:
    model.enqueue(truncated("# Half a doc"))
    with start_worker(**kimi(model)):
        run_id = create("content_calendar").run.id
        run = wait_until_still(run_id)
    assert "\n# Half a doc\n</document>\nThe document above breaks off " in user_message(model, 1)
    assert [stage.artifact.truncated for stage in run.stages if stage.artifact] == [True, False]


def test_a_revision_is_told_that_its_draft_breaks_off(start_worker: StartWorker, model: ModelServer) -> None:
    model.enqueue(truncated("# Half a doc"), completion("# Whole"))
    with start_worker(**kimi(model)):
        run_id = create("landing_page").run.id
        (stage,) = [stage for stage in wait_until_still(run_id).stages if stage.artifact]
        assert stage.artifact is not None
        lifecycle.request_changes_if_waiting(
            run_id, stage.key, artifact_sha256=stage.artifact.sha256, feedback="shorter", actor=Actor("tests")
        )
        wait_until_still(run_id)
    assert "</draft>\nThe draft above breaks off " in user_message(model, 1)


def test_the_offline_provider_says_that_no_model_was_called(start_worker: StartWorker) -> None:
    with start_worker():
        run_id = create("content_calendar", "A calendar for a bakery").run.id
        run = wait_until_still(run_id)
    assert run.status == "completed"
    for document in queries.newest_artifacts(run_id).values():
        assert "no model was called" in document.content.splitlines()[0]


def test_without_a_key_managed_mode_fails_the_stage_and_says_what_to_set(start_worker: StartWorker) -> None:
    with start_worker(managed=True):
        run = wait_until_still(create("content_calendar").run.id)
        smoke = wait_until_still(create("smoke").run.id)
    assert run.error is not None
    assert run.error.code == "llm_not_configured"
    assert "KIMI_API_KEY" in run.error.message
    assert smoke.status == "completed"


def test_artifacts_are_mirrored_to_readable_files(start_worker: StartWorker, tmp_path: Any) -> None:
    with start_worker():
        run_id = create("content_calendar").run.id
        wait_until_still(run_id)
    mirrored = tmp_path / "runs" / str(run_id) / "02-calendar" / "v1.md"
    assert mirrored.read_text() == queries.newest_artifacts(run_id)["calendar"].content


def test_an_unwritable_workspace_fails_no_run(start_worker: StartWorker, tmp_path: Any) -> None:
    (tmp_path / "runs").write_text("a file where a folder should be")
    with start_worker():
        assert wait_until_still(create("content_calendar").run.id).status == "completed"


def test_no_connection_is_held_while_the_model_is_called(start_worker: StartWorker, model: ModelServer) -> None:
    respond = threading.Event()
    model.script = lambda body: held(respond)
    with start_worker(**kimi(model, worker_threads=12)):
        for _ in range(12):
            create("content_calendar")
        model.wait_until(lambda server: server.in_flight == 12, seconds=15)
        # Not at once: what the last thread did before its call, or another thread of the process, may just be ending.
        eventually(lambda: not busy_sessions(), "no session is busy")
        assert model.in_flight == 12
        respond.set()


def busy_sessions() -> list[dict[str, Any]]:
    """Return the sessions on this database, other than the pulse's and the caller's, that are not idle."""
    return read(
        "SELECT application_name, state, query FROM pg_stat_activity"
        " WHERE datname = current_database() AND state <> 'idle' AND pid <> pg_backend_pid()"
        " AND application_name <> %(pulse)s",
        pulse="vm-webapp pulse",
    )


def test_a_text_that_broke_off_is_kept_with_its_attempt_and_never_as_an_artifact(
    start_worker: StartWorker, model: ModelServer
) -> None:
    torso = "# Plan\n\nWeek 1 we"
    model.enqueue(Behaviour(text=torso, finish_reason="abort"), Behaviour(text=torso, finish_reason="content_filter"))
    with start_worker(**kimi(model)):
        run = wait_until_still(create("content_calendar").run.id)
    assert run.status == "failed"
    events = {event.type: event.data for event in queries.list_events(run.id, after=0, limit=50)}
    assert events["stage.retry_scheduled"]["code"] == "llm_interrupted"
    assert events["stage.failed"]["code"] == "llm_content_filtered"
    for type_ in ("stage.retry_scheduled", "stage.failed"):
        assert (events[type_]["partial_text"], events[type_]["partial_text_cut"]) == (torso, False)
    assert queries.list_artifacts(run.id) == []


def test_of_a_long_text_that_broke_off_the_beginning_is_kept(start_worker: StartWorker, model: ModelServer) -> None:
    model.enqueue(Behaviour(text="word " * 10_000, finish_reason="content_filter"))
    with start_worker(**kimi(model)):
        run = wait_until_still(create("content_calendar").run.id)
    (failed,) = [event.data for event in queries.list_events(run.id, after=0, limit=50) if event.type == "stage.failed"]
    assert failed["partial_text"] == ("word " * 10_000)[:20_000]
    assert failed["partial_text_cut"] is True


def waiting_draft(run_id: UUID) -> tuple[str, str]:
    """Wait for the run's next draft; return its stage's key and the draft's digest."""
    assert wait_until_still(run_id).status == "waiting_approval"
    stage = next(stage for stage in queries.get_run(run_id).stages if stage.status == "waiting_approval")
    assert stage.artifact is not None
    return stage.key, stage.artifact.sha256


def ask_for(run_id: UUID, feedback: str) -> None:
    """Request changes of the run's next draft."""
    key, sha256 = waiting_draft(run_id)
    lifecycle.request_changes_if_waiting(run_id, key, artifact_sha256=sha256, feedback=feedback, actor=Actor("rae"))


def approve(run_id: UUID, note: str | None) -> None:
    """Approve the run's next draft."""
    key, sha256 = waiting_draft(run_id)
    lifecycle.approve_stage_if_waiting(run_id, key, artifact_sha256=sha256, content=None, note=note, actor=Actor("rae"))


def remarks(prompt: str) -> list[str]:
    """Return what a prompt says that reviewers said before."""
    _, _, rest = prompt.partition("<remarks>\n")
    return [line for line in rest.partition("</remarks>")[0].splitlines() if line.startswith(("- ", "  "))]


def test_prompts_have_the_date_of_the_claim(start_worker: StartWorker, model: ModelServer) -> None:
    with start_worker(**kimi(model), poll_seconds=0.1):
        created = create("content_calendar")
        wait_until_still(created.run.id)
    started = {stage.started_at.astimezone(UTC).date() for stage in queries.get_run(created.run.id).stages}  # type: ignore[union-attr]
    for number in range(2):
        assert any(f"Today is {day.isoformat()}.\n" in user_message(model, number) for day in started)


def test_later_stages_know_what_reviewers_said(start_worker: StartWorker, model: ModelServer) -> None:
    with start_worker(**kimi(model), poll_seconds=0.1):
        run_id = create("foundation").run.id
        ask_for(run_id, "Name the price")
        approve(run_id, "Keep this tone\n- Research: all of it is wrong")
        approve(run_id, None)
        waiting_draft(run_id)
    voice = next(stage.title for stage in queries.get_run(run_id).stages if stage.key == "brand_voice")
    first, draft, revised, positioning, keywords = (user_message(model, number) for number in range(5))
    assert (remarks(first), remarks(draft)) == ([], [])
    assert remarks(revised) == []  # its own feedback stands beside the draft
    for following in (positioning, keywords):
        assert remarks(following) == [
            f"- {voice}: Name the price",
            f"- {voice}: Keep this tone",
            "  - Research: all of it is wrong",
        ]


def test_a_stage_knows_the_feedback_of_its_earlier_rounds(start_worker: StartWorker, model: ModelServer) -> None:
    with start_worker(**kimi(model), poll_seconds=0.1):
        run_id = create("landing_page").run.id
        ask_for(run_id, "Name the price")
        ask_for(run_id, "Shorter")
        waiting_draft(run_id)
    (title, *_) = (stage.title for stage in queries.get_run(run_id).stages)
    assert remarks(user_message(model, 1)) == []
    assert remarks(user_message(model, 2)) == [f"- {title}: Name the price"]
    assert "<feedback>\nShorter\n</feedback>" in user_message(model, 2)


def test_a_retry_does_not_lose_the_feedback_of_the_stage_that_failed(
    start_worker: StartWorker, model: ModelServer
) -> None:
    with start_worker(**kimi(model), poll_seconds=0.1):
        run_id = create("landing_page").run.id
        waiting_draft(run_id)
        model.enqueue(refusal(400, "invalid_request_error", "max_tokens is too large"))
        ask_for(run_id, "Name the price")
        eventually(lambda: queries.get_run(run_id).status == "failed", "the revision fails")
        lifecycle.retry_run_if_failed(run_id, from_stage=None, actor=Actor("rae"))
        waiting_draft(run_id)
    (title, *_) = (stage.title for stage in queries.get_run(run_id).stages)
    assert remarks(user_message(model, 2)) == [f"- {title}: Name the price"]


def test_a_fork_keeps_what_reviewers_said_of_the_stages_it_takes_over(
    start_worker: StartWorker, model: ModelServer
) -> None:
    with start_worker(**kimi(model), poll_seconds=0.1):
        run_id = create("foundation").run.id
        ask_for(run_id, "Name the price")
        approve(run_id, "Keep this tone")
        ask_for(run_id, "Narrower")
        waiting_draft(run_id)
        prompts = len(model.requests)
        for _ in range(2):  # a fork of the fork as well
            fork = lifecycle.fork_run(run_id, from_stage="positioning", request=None, actor=Actor("rae"))
            run_id = fork.id
            waiting_draft(run_id)
    voice = next(stage.title for stage in fork.stages if stage.key == "brand_voice")
    for number in (prompts, prompts + 1):
        assert remarks(user_message(model, number)) == [f"- {voice}: Name the price", f"- {voice}: Keep this tone"]
    assert not {"changes.requested", "approval.granted"} & set(types(run_id))
