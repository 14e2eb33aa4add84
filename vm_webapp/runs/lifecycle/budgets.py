"""Fails runs whose own budget is spent before their next call."""

from __future__ import annotations

from uuid import UUID

from vm_webapp.db.compiled import NO_KEY_UPDATE, NOW, compiled, param
from vm_webapp.db.models import Run, Stage
from vm_webapp.db.pool import autocommit, execute, jsonb, row, rows, transaction
from vm_webapp.runs import statements
from vm_webapp.runs.budget import Budget, how_spent
from vm_webapp.runs.events import append_events
from vm_webapp.runs.lifecycle.steps import error_json, fail_run
from vm_webapp.runs.states import Failure

ACTOR = "budget"
SPENT_BATCH = 20  # each takes statements of its own, and the loop that runs them must renew its leases in time

# Skipped if another transaction has it: this one may be the loop's that renews leases, and the run is found again.
_LOCK_FREE_RUN = compiled(Run.select(Run.id).where(Run.id == param("id")).for_update(NO_KEY_UPDATE, skip_locked=True))
# A worker of an earlier build knows no budgets and may claim the stage in this moment.
_FAIL_STAGE = compiled(
    Stage.update({Stage.status: "failed", Stage.finished_at: NOW, Stage.error: param("error")}).where(
        Stage.id == param("id"), Stage.status == "queued"
    )
)


def fail_run_if_budget_spent(run_id: UUID) -> bool:
    """Fail a run that waits for a call which its own budget does not pay for: queued or running → failed.

    Returns:
        False when it waits for no such call, or when another transaction changes it: nothing was written.
    """
    with transaction():
        if row(_LOCK_FREE_RUN, id=run_id) is None:
            return False
        stage = row(statements.FIND_SPENT_STAGE, run_id=run_id)
        if stage is None:
            return False
        budget = Budget(stage["budget_tokens"], stage["budget_money"])
        spent = how_spent(budget, stage["tokens"], stage["money"])
        message = f"the run's budget is spent: {spent}; a retry with a higher budget goes on"
        failure = Failure("budget_exceeded", message, permanent=True)
        if not execute(_FAIL_STAGE, id=stage["id"], error=jsonb(error_json(failure))):
            return False
        append_events(run_id, ACTOR, *fail_run(run_id, stage["key"], failure))
        return True


def fail_spent_runs() -> int:
    """Fail up to ``SPENT_BATCH`` runs whose budget is spent; return how many.

    A worker that has ended a stage fails the run itself. These are those that were queued again in another way: after a
    review, a failure or a lost lease, or by a retry that raised no budget.
    """
    with autocommit():
        found = rows(statements.FIND_SPENT_RUNS, limit=SPENT_BATCH)
    return sum(fail_run_if_budget_spent(each["run_id"]) for each in found)
