"""How an attempt that has its text ends its stage, alone or together with others, and claims its run's next one."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from peewee import fn

from vm_webapp.db.compiled import NOW, compiled, param
from vm_webapp.db.models import Stage
from vm_webapp.db.pool import Row, autocommit, row, rows, transaction
from vm_webapp.llm.base import Completion
from vm_webapp.metrics import count_run, count_stage
from vm_webapp.runs import artifacts, providers, statements
from vm_webapp.runs.artifacts import NewArtifact
from vm_webapp.runs.lifecycle.attempts import signal_current_state
from vm_webapp.runs.lifecycle.budgets import fail_run_if_budget_spent
from vm_webapp.runs.lifecycle.claims import ACTOR, Claim, Claimant, RunOfStage, claim_stage, make_claim
from vm_webapp.runs.lifecycle.steps import count_after_commit
from vm_webapp.runs.signals import run_changed, stage_due
from vm_webapp.runs.states import LEASE_SECONDS
from vm_webapp.usage.calls import CallUsage, values_of

_CLAIMED_UNDER = compiled(
    Stage.select(
        Stage.id,
        Stage.key,
        Stage.attempt,
        Stage.feedback,
        Stage.provider,
        Stage.trace_context,
        NOW.alias("claimed_at"),
        fn.date_part("epoch", Stage.deadline_at - NOW).alias("seconds_left"),
    ).where(Stage.run == param("run_id"), Stage.lease_token == param("token"))
)


@dataclass(frozen=True, slots=True)
class Finished:
    """How an attempt ended.

    Attributes:
        next: the claim of the run's next stage, or None where this worker does not run it.
        version: the version of the artifact that this call stored, or None where an earlier call had stored it.
    """

    next: Claim | None = None
    version: int | None = None


@dataclass(frozen=True, slots=True)
class Ending:
    """An attempt that has its text, and may end; the arguments of ``finish_stage_if_held``."""

    claim: Claim
    completion: Completion
    next_token: UUID | None
    usage: CallUsage | None = None

    @property
    def kind(self) -> tuple[bool, bool]:
        """What must be equal for attempts that one statement ends: whether a model was called, and a brand's run."""
        return self.usage is not None, self.claim.snapshot["brand"] is not None


def finish_stage_if_held(
    claim: Claim, completion: Completion, claimant: Claimant, *, next_token: UUID | None, usage: CallUsage | None = None
) -> Finished | None:
    """Store an attempt's artifact and advance its run, if the attempt still holds its stage.

    One statement stores the artifact, ends the attempt, queues and claims the next stage or completes the run
    (``statements.finish_stages``).

    Called again after a COMMIT whose outcome is unknown, it recognises its own work.

    Args:
        claim: the attempt.
        completion: the text that the model wrote.
        claimant: the worker that claims the run's next stage.
        next_token: token for the run's next stage, None to leave that to others. The same at every repetition.
        usage: what its model call has used, None where no model was called.

    Returns:
        How the attempt ended, or None when it no longer holds the stage: nothing was written.
    """
    ending = Ending(claim, completion, next_token, usage)
    done = _finish([ending], claimant, waits=True)
    if not done:
        return _own_earlier_finish(ending)
    return carry_on(ending, claimant, done[0])


def finish_free_stages(endings: Sequence[Ending], claimant: Claimant) -> dict[UUID, Row]:
    """Do what ``finish_stage_if_held`` does for attempts of one kind, but wait for no run that another has locked.

    Each attempt that it returns is to be passed to ``carry_on``, each other one to ``finish_stage_if_held``.

    Returns:
        What was done, by the attempt's token.
    """
    return {done["token"]: done for done in _finish(endings, claimant, waits=False)}


def carry_on(ending: Ending, claimant: Claimant, done: Row) -> Finished:
    """Signal that an attempt has ended, and claim the next stage where the statement that ended it could not."""
    claim, token = ending.claim, ending.next_token
    run_changed.raise_after_commit(claim.run_id)
    if done["id"] is None and done["owner_is_limited"]:
        stage_due.raise_after_commit(claim.stage_id)
    if not done["waits"]:
        count_after_commit(_count_completed, claim, done["id"] is None)
    if done["provider_has_failed"]:
        assert claim.provider is not None
        with transaction():
            providers.record_success(claim.provider)
    if done["status"] == "running" and token:
        return Finished(make_claim(_run_of(claim), done, token, waited_seconds=0.0), done["version"])
    if done["status"] == "queued":
        return Finished(_claim_next(claim, done, claimant, token), done["version"])
    return Finished(version=done["version"])


def _finish(endings: Sequence[Ending], claimant: Claimant, *, waits: bool) -> list[Row]:
    called, branded = endings[0].kind
    with autocommit():
        # Guarded by the token, never by the lease's end: a lone worker may finish after its lease expired, as long as
        # no other worker has taken the stage over.
        return rows(
            statements.finish_stages(called=called, branded=branded, waits=waits),
            attempts=json.dumps([_values(ending, claimant) for ending in endings], ensure_ascii=False, default=str),
            count=len(endings),
            actor=ACTOR,
            lease=LEASE_SECONDS,
            worker=claimant.worker_id,
            provider=claimant.provider,
            cap=claimant.cap,
        )


def _count_completed(claim: Claim, run_too: bool) -> None:
    count_stage(claim.workflow.name, claim.key, "completed")
    if run_too:
        count_run(claim.workflow.name, "completed")


def _values(ending: Ending, claimant: Claimant) -> dict[str, Any]:
    """Return what ``statements.finish_stages`` needs to know of an attempt."""
    claim, completion = ending.claim, ending.completion
    stored = artifacts.values_of(_new_artifact(claim, completion))
    ended = {"sha256": stored["sha256"], "truncated": completion.truncated}
    if completion.note:
        ended["note"] = completion.note
    stages = claim.workflow.stages
    at = stages.index(claim.spec) + 1
    following = stages[at] if at < len(stages) else None
    # With a cap, claims must wait for each other: then the next stage is queued here and claimed after.
    claims = following is not None and claimant.cap is None
    return {
        **stored,
        **values_of(ending.usage),
        "written_by": completion.provider,  # ``provider`` is what the rules are about
        "stage_id": claim.stage_id,
        "token": claim.token,
        "requires_approval": claim.spec.requires_approval,
        "ended": ended,
        "next_token": ending.next_token if claims else None,
        "timeout": following.timeout_seconds if following else 0,
        "called": claim.provider,
    }


def _new_artifact(claim: Claim, completion: Completion) -> NewArtifact:
    return NewArtifact(
        name=claim.spec.artifact_name,
        content=completion.text,
        provider=completion.provider,
        model=completion.model,
        prompt_tokens=completion.prompt_tokens,
        completion_tokens=completion.completion_tokens,
        truncated=completion.truncated,
        note=completion.note,
        attempt_token=claim.token,
    )


def _claim_next(claim: Claim, stage: Row, claimant: Claimant, token: UUID | None) -> Claim | None:
    """Claim the run's next stage, which has been queued; where that fails, hint that it is due.

    The run fails instead if its own budget is spent.
    """
    following = claim_stage(stage["id"], claimant, token=token) if token else None
    if following is None and not (stage["budgeted"] and fail_run_if_budget_spent(claim.run_id)):
        stage_due.raise_after_commit(stage["id"])
    return following


def _own_earlier_finish(ending: Ending) -> Finished | None:
    """Distinguish a stage that another worker took (None) from one that this attempt finished in an earlier COMMIT."""
    # The stage cannot show it, because its token is cleared when the attempt ends; the artifact keeps the token.
    claim, token = ending.claim, ending.next_token
    with transaction(durable=False):
        if not artifacts.wrote_version(claim.stage_id, claim.token):
            return None
        signal_current_state(claim)
        return Finished(_claimed_under(token, claim) if token else None)


def _claimed_under(token: UUID, claim: Claim) -> Claim | None:
    """Return the claim of the run's next stage that was made under this token, if it still holds the stage."""
    # The claim may have been rescued while the database was out of reach: then its token is gone, and nothing is found.
    taken = row(_CLAIMED_UNDER, run_id=claim.run_id, token=token)
    return make_claim(_run_of(claim), taken, token) if taken else None


def _run_of(claim: Claim) -> RunOfStage:
    return RunOfStage(claim.run_id, claim.workflow, claim.request, claim.request_id, claim.snapshot)
