"""Reads what a stage's prompt is made of: the request, brand and project, earlier artifacts and reviewers' remarks."""

from __future__ import annotations

from collections.abc import Mapping
from uuid import UUID

from vm_webapp.llm.base import Completion
from vm_webapp.runs import queries
from vm_webapp.runs.lifecycle import Claim
from vm_webapp.runs.records import NewestArtifact
from vm_webapp.workflows.model import StageSpec
from vm_webapp.workflows.render import EarlierArtifact, Remark, StageContext


class ReadRun:
    """What a thread has read of the run that it carries.

    Between the end of a stage and the thread's claim of the next one nobody can change the run's artifacts, nor review
    them, so nothing is read twice, and what the thread has written itself is not read at all.
    """

    def __init__(self, run_id: UUID) -> None:
        self._run_id = run_id
        self._newest: dict[str, NewestArtifact] | None = None
        self._said: tuple[tuple[str, str], ...] | None = None
        self._written: dict[str, NewestArtifact] = {}

    def newest_artifacts(self) -> Mapping[str, NewestArtifact]:
        """Return the newest artifact of each stage that has one, by the stage's key."""
        if self._newest is None:
            self._newest = queries.newest_artifacts(self._run_id)
        return {**self._newest, **self._written}

    def remarks(self) -> tuple[tuple[str, str], ...]:
        """Return what reviewers said of the run's drafts, oldest first: pairs of stage key and text."""
        if self._said is None:
            self._said = queries.read_remarks(self._run_id)
        return self._said

    def begins(self, *, for_the_first_time: bool) -> None:
        """Note that the run has no artifact that counts; for the first time there is none that anybody could review."""
        self._newest = {}
        if for_the_first_time:
            self._said = ()

    def note_written(self, key: str, completion: Completion) -> None:
        """Note the artifact that the thread has stored for a stage."""
        self._written[key] = NewestArtifact(completion.text, completion.truncated)


def read_context(claim: Claim, read: ReadRun) -> StageContext:
    """Return what the prompt of a claimed stage is made of.

    Args:
        claim: the stage.
        read: what the thread has read of the stage's run.

    Raises:
        DatabaseUnavailable: something that had to be read could not be.
    """
    before = claim.workflow.stages[: claim.workflow.position_of(claim.spec.key) - 1]
    if not before and not claim.feedback:
        # A run's first stage has nothing to read, unless it is written again.
        read.begins(for_the_first_time=claim.attempt == 1)
    newest = read.newest_artifacts()
    earlier = tuple(
        EarlierArtifact(stage.key, stage.title, artifact.content, artifact.truncated)
        for stage in before
        if (artifact := newest.get(stage.key))
    )
    draft = newest.get(claim.spec.key) if claim.feedback else None
    return StageContext(
        request=claim.request,
        brand=claim.snapshot["brand"],
        project=claim.snapshot["project"],
        earlier=earlier,
        feedback=claim.feedback,
        draft=draft.content if draft else None,
        draft_truncated=draft.truncated if draft else False,
        remarks=_remarks(claim, (*before, claim.spec), read),
        today=claim.claimed_at.date(),
    )


def _remarks(claim: Claim, stages: tuple[StageSpec, ...], read: ReadRun) -> tuple[Remark, ...]:
    """Return what reviewers said of these stages, without the feedback that the prompt has beside the draft."""
    # Only a stage that requires approval has remarks, and many stages come before the first of these: no query then.
    if not any(stage.requires_approval for stage in stages):
        return ()
    titles = {stage.key: stage.title for stage in stages}
    said = [(key, text) for key, text in read.remarks() if key in titles]
    own = [number for number, (key, _) in enumerate(said) if key == claim.spec.key]
    if claim.feedback and own:
        # The stage's newest remark. After a retry there is neither feedback nor draft, and the remark stays.
        del said[own[-1]]
    return tuple(Remark(key, titles[key], text) for key, text in said)
