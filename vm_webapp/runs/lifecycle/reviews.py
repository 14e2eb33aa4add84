"""Reviews: a person approves a draft, with or without an edit, or requests changes."""

from __future__ import annotations

from uuid import UUID

from peewee import fn

from vm_webapp.access.actor import Actor
from vm_webapp.access.audit import record
from vm_webapp.db.compiled import NOW, STATEMENT_TIME, compiled, param
from vm_webapp.db.models import Artifact, Run, Stage
from vm_webapp.db.pool import Row, execute, row, transaction
from vm_webapp.errors import Conflict, NotFound
from vm_webapp.metrics import count_stage, observe_review
from vm_webapp.runs import artifacts
from vm_webapp.runs.artifacts import NewArtifact, StoredArtifact, newest_of
from vm_webapp.runs.events import NewEvent, append_events
from vm_webapp.runs.lifecycle.four_eyes import check_decided_by_another
from vm_webapp.runs.lifecycle.steps import advance_run, count_after_commit, lock_run
from vm_webapp.runs.run_spans import note_review
from vm_webapp.runs.signals import stage_due

HUMAN = "human"

_WAITING = (Stage.id == param("id")) & (Stage.status == "waiting_approval")
# Both updates may count on finding their row: ``_waiting_draft`` has read the status under the run's lock.
_COMPLETE = compiled(Stage.update({Stage.status: "completed", Stage.finished_at: NOW}).where(_WAITING))
_REQUEUE = compiled(
    Stage.update(
        {
            Stage.status: "queued",
            Stage.feedback: param("feedback"),
            Stage.failures: 0,
            Stage.rescues: 0,
            Stage.releases: 0,
            Stage.queued_at: STATEMENT_TIME,
            Stage.available_at: STATEMENT_TIME,
        }
    ).where(_WAITING)
)
_RESUME_RUN = compiled(
    Run.update({Run.status: "running"}).where(Run.id == param("id"), Run.status == "waiting_approval")
)
_DRAFT_AGE = fn.date_part("epoch", NOW - newest_of(Stage.id, Artifact.created_at))
_STAGE = compiled(
    Stage.select(Stage.id, Stage.status, Stage.trace_context, _DRAFT_AGE.alias("draft_age")).where(
        Stage.run == param("run_id"), Stage.key == param("key")
    )
)


class DraftChanged(Conflict):
    """The draft is not the one that the reviewer read; ``current_sha256`` is the digest of the one that waits."""

    code = "draft_changed"

    def __init__(self, current_sha256: str) -> None:
        super().__init__(f"the draft has changed since it was read; its sha256 is now {current_sha256}")
        self.current_sha256 = current_sha256

    @property
    def facts(self) -> dict[str, str | int]:
        """Return the digest of the draft that waits now."""
        return {"current_sha256": self.current_sha256}


def approve_stage_if_waiting(
    run_id: UUID,
    stage_key: str,
    *,
    artifact_sha256: str,
    content: str | None,
    note: str | None,
    actor: Actor,
) -> None:
    """Accept a draft, as it is or as edited, and move the run on.

    Args:
        run_id: the run.
        stage_key: the stage that waits.
        artifact_sha256: digest of the draft that was read.
        content: the edited text, which is stored as a further version, or None.
        note: a remark for the timeline, or None.
        actor: who approves it.

    Raises:
        NotFound: no such run or stage.
        OwnRun: the run asks for four eyes, and the actor created it.
        Conflict: the stage does not wait for approval.
        DraftChanged: the draft has another digest by now.
    """
    with transaction():
        stage, draft = _waiting_draft(run_id, stage_key, artifact_sha256, actor)
        written_at = draft.created_at
        if content is not None:
            new = NewArtifact(name=draft.name, content=content, provider=HUMAN, author=actor.name)
            draft = artifacts.add_version(run_id, stage["id"], new)
        execute(_COMPLETE, id=stage["id"])
        count_after_commit(count_stage, stage["workflow"], stage_key, "completed")
        data = {"version": draft.version, "sha256": draft.sha256, "edited": content is not None}
        due, events = advance_run(run_id)
        # Where no stage is left, advance_run has completed the run, and there is nothing to resume.
        if due:
            execute(_RESUME_RUN, id=run_id)
            stage_due.raise_after_commit(due["id"])
        append_events(
            run_id,
            actor.name,
            NewEvent("approval.granted", stage_key, data | ({"note": note} if note else {})),
            NewEvent("stage.completed", stage_key, data),
            *events,
        )
        record(actor, "stage.approve", f"run:{run_id}", data={"stage": stage_key, **data})
        note_review(run_id, stage_key, "approved", since=written_at, trace_context=stage["trace_context"])


def request_changes_if_waiting(
    run_id: UUID, stage_key: str, *, artifact_sha256: str, feedback: str, actor: Actor
) -> None:
    """Queue the stage again: the next attempt's prompt contains the draft and the feedback. Its counters are reset.

    Raises:
        NotFound: no such run or stage.
        OwnRun: the run asks for four eyes, and the actor created it.
        Conflict: the stage does not wait for approval.
        DraftChanged: the draft has another digest by now.
    """
    with transaction():
        stage, draft = _waiting_draft(run_id, stage_key, artifact_sha256, actor)
        execute(_REQUEUE, id=stage["id"], feedback=feedback)
        execute(_RESUME_RUN, id=run_id)
        append_events(
            run_id,
            actor.name,
            NewEvent("changes.requested", stage_key, {"version": draft.version, "feedback": feedback}),
            NewEvent("stage.queued", stage_key),
        )
        data = {"stage": stage_key, "version": draft.version, "sha256": draft.sha256}
        record(actor, "stage.request_changes", f"run:{run_id}", data=data)
        note_review(
            run_id, stage_key, "changes_requested", since=draft.created_at, trace_context=stage["trace_context"]
        )
        stage_due.raise_after_commit(stage["id"])


def _waiting_draft(run_id: UUID, stage_key: str, artifact_sha256: str, reviewer: Actor) -> tuple[Row, StoredArtifact]:
    # The lock has a statement of its own: the next one has a new snapshot, and sees what the transition committed that
    # held the lock before. Of two decisions at once, the second finds a stage that does not wait any more.
    run = lock_run(run_id)
    check_decided_by_another(run, reviewer)
    stage = row(_STAGE, run_id=run_id, key=stage_key)
    if stage is None:
        raise NotFound(f"run {run_id} has no stage {stage_key}")
    if stage["status"] != "waiting_approval":
        raise Conflict(f"the stage {stage_key} is {stage['status']}; only a stage that waits can be decided")
    draft = artifacts.newest_version(stage["id"])
    assert draft is not None, "a stage that waits for approval has a draft"
    # The status alone does not suffice: changes may have been requested and a new draft written since the reviewer
    # read.
    if draft.sha256 != artifact_sha256:
        raise DraftChanged(draft.sha256)
    stage["workflow"] = run["workflow"]
    count_after_commit(observe_review, run["workflow"], stage_key, stage["draft_age"])
    return stage, draft
