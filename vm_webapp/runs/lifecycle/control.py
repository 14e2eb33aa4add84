"""What a person does with a whole run: cancel it, or retry one that failed."""

from __future__ import annotations

from uuid import UUID

from peewee import Case, fn

from vm_webapp.access.actor import Actor
from vm_webapp.access.audit import record
from vm_webapp.db.compiled import NOW, STATEMENT_TIME, compiled, param
from vm_webapp.db.models import Run, Stage
from vm_webapp.db.pool import Row, execute, row, transaction
from vm_webapp.errors import Conflict, InvalidInput, NotFound
from vm_webapp.metrics import count_run
from vm_webapp.runs import queries
from vm_webapp.runs.budget import Budget, how_spent
from vm_webapp.runs.events import NewEvent, append_events
from vm_webapp.runs.lifecycle.steps import LEASE_CLEARED, count_after_commit, lock_run, signal_room
from vm_webapp.runs.signals import stage_due
from vm_webapp.tracing.spans import current_span

_OF_RUN = Stage.run == param("run_id")
_FINAL = ("completed", "canceled")
# Clearing the token is what ends a call in flight: the worker's next renewal finds its token gone and cancels the call.
_CANCEL_STAGES = compiled(
    Stage.update({Stage.status: "canceled", Stage.finished_at: NOW, **LEASE_CLEARED}).where(
        _OF_RUN, Stage.status.not_in(_FINAL)
    )
)
_CANCEL_RUN = compiled(
    Run.update({Run.status: "canceled", Run.finished_at: NOW}).where(Run.id == param("id"), Run.status.not_in(_FINAL))
)
_IS_FIRST = Stage.position == param("position")
# ``attempt`` is not reset, because it numbers the claims of all tries. No guard on the status: in a failed run no stage
# is queued, running or waiting for approval, and the run's lock keeps it so.
_RESTART_STAGES = compiled(
    Stage.update(
        {
            Stage.status: Case(None, [(_IS_FIRST, "queued")], "pending"),
            Stage.queued_at: Case(None, [(_IS_FIRST, STATEMENT_TIME)]),
            Stage.available_at: Case(None, [(_IS_FIRST, STATEMENT_TIME)]),
            Stage.started_at: None,
            Stage.finished_at: None,
            Stage.error: None,
            Stage.feedback: None,
            Stage.provider: None,
            Stage.failures: 0,
            Stage.rescues: 0,
            Stage.releases: 0,
            # The trace of a run that has failed is over, and kept apart from a retry that may come a week later.
            Stage.trace_context: fn.coalesce(param("trace_context"), Stage.trace_context),
        }
    ).where(_OF_RUN, Stage.position >= param("position"))
)
_RESTART_RUN = compiled(
    Run.update({Run.status: "queued", Run.error: None, Run.finished_at: None, Run.archived_at: None}).where(
        Run.id == param("id"), Run.status == "failed"
    )
)
_GIVE_BUDGET = compiled(
    Run.update({Run.budget_tokens: param("tokens"), Run.budget_money: param("money")}).where(Run.id == param("id"))
)
_MARK_BUDGETED = compiled(Stage.update({Stage.budgeted: True}).where(_OF_RUN, ~Stage.budgeted))
_STAGE = Stage.select(Stage.id, Stage.key, Stage.position).where(_OF_RUN)
# A run's stages follow one another, so at most one has failed.
_FAILED_STAGE = compiled(_STAGE.where(Stage.status == "failed").order_by(Stage.position).limit(1))
_STAGE_BY_KEY = compiled(_STAGE.where(Stage.key == param("key")))


def cancel_run_if_open(run_id: UUID, *, actor: Actor) -> bool:
    """Cancel a run and every stage that is not complete. A call in flight loses its lease and is abandoned.

    Returns:
        False when the run was canceled already: nothing changed.

    Raises:
        NotFound: no such run.
        Conflict: the run is completed.
    """
    with transaction():
        run = lock_run(run_id)
        if run["status"] == "completed":
            raise Conflict("the run is completed; there is nothing left to cancel")
        if run["status"] == "canceled":
            return False
        execute(_CANCEL_STAGES, run_id=run_id)
        execute(_CANCEL_RUN, id=run_id)
        count_after_commit(count_run, run["workflow"], "canceled")
        signal_room(run_id)
        append_events(run_id, actor.name, NewEvent("run.canceled"))
        record(actor, "run.cancel", f"run:{run_id}")
        return True


def retry_run_if_failed(run_id: UUID, *, from_stage: str | None, actor: Actor, budget: Budget | None = None) -> None:
    """Queue a failed run again from its failed stage or from an earlier one; the artifacts that it has stay.

    Args:
        run_id: the run.
        from_stage: key of the stage to start from, None for the one that failed.
        actor: who retries it.
        budget: its budget from now on, for all its calls, those before included; None for the one that it has.

    Raises:
        NotFound: no such run or stage.
        Conflict: the run is not failed, or the stage comes after the one that failed.
        InvalidInput: it has spent the budget that is given already.
    """
    with transaction():
        run = lock_run(run_id)
        if run["status"] != "failed":
            raise Conflict(f"the run is {run['status']}; only a failed run can be retried")
        first = _stage_to_start_from(run_id, from_stage)
        request = current_span()
        trace_context = str(request.context) if request else None
        execute(_RESTART_STAGES, run_id=run_id, position=first["position"], trace_context=trace_context)
        execute(_RESTART_RUN, id=run_id)
        facts = {"from_stage": first["key"]} | (_give_budget(run_id, budget) if budget else {})
        append_events(
            run_id,
            actor.name,
            NewEvent("run.retried", None, facts),
            NewEvent("stage.queued", first["key"]),
        )
        record(actor, "run.retry", f"run:{run_id}", data=facts)
        stage_due.raise_after_commit(first["id"])


def _give_budget(run_id: UUID, budget: Budget) -> dict[str, int | str]:
    spent = queries.read_spending(run_id)
    if words := how_spent(budget, spent.tokens, spent.money):
        raise InvalidInput(f"the run has spent it already: {words}", pointer="/budget")
    execute(_GIVE_BUDGET, id=run_id, tokens=budget.tokens, money=budget.money)
    execute(_MARK_BUDGETED, run_id=run_id)
    return budget.facts()


def _stage_to_start_from(run_id: UUID, key: str | None) -> Row:
    failed = row(_FAILED_STAGE, run_id=run_id)
    assert failed is not None, "a failed run has a failed stage"
    if key is None:
        return failed
    wanted = row(_STAGE_BY_KEY, run_id=run_id, key=key)
    if wanted is None:
        raise NotFound(f"run {run_id} has no stage {key}")
    # The stages between the failed one and a later one have no artifacts, and prompts are made of earlier artifacts.
    if wanted["position"] > failed["position"]:
        raise Conflict(f"the stage {key} comes after {failed['key']}, which failed")
    return wanted
