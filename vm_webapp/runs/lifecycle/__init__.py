"""The only code that changes the status of a run or of a stage.

Every change is one short transaction: it locks the run's row first, then changes stages by guarded UPDATEs, then
appends the events. A claim, and the end of an attempt that succeeded, do all of it in one statement. Zero rows updated
means that another transaction changed the row first, which is a normal outcome.

Locks are taken in the order run, stage, provider, so that a transaction which holds a provider's row waits for no other
lock. A claim may lock the provider first, because it skips a run or a stage that another transaction has locked and
waits for none.
"""

from vm_webapp.runs.lifecycle.attempts import fail_attempt_if_held, record_abandoned_call, release_stage_if_held
from vm_webapp.runs.lifecycle.budgets import SPENT_BATCH, fail_run_if_budget_spent, fail_spent_runs
from vm_webapp.runs.lifecycle.claims import (
    Claim,
    Claimant,
    ClaimedStages,
    UnreadableClaim,
    claim_due_stages,
    claim_stage,
    find_claims,
)
from vm_webapp.runs.lifecycle.clock_steps import follow_clock_back
from vm_webapp.runs.lifecycle.control import cancel_run_if_open, retry_run_if_failed
from vm_webapp.runs.lifecycle.creation import NewRun, PreparedRun, create_run, create_runs, prepare_run
from vm_webapp.runs.lifecycle.finishing import Ending, Finished, carry_on, finish_free_stages, finish_stage_if_held
from vm_webapp.runs.lifecycle.forking import fork_run
from vm_webapp.runs.lifecycle.rescue import RESCUE_BATCH, LostAttempt, Rescued, rescue_expired_leases
from vm_webapp.runs.lifecycle.reviews import (
    DraftChanged,
    approve_stage_if_waiting,
    request_changes_if_waiting,
)

__all__ = [
    "RESCUE_BATCH",
    "SPENT_BATCH",
    "Claim",
    "Claimant",
    "ClaimedStages",
    "DraftChanged",
    "Ending",
    "Finished",
    "LostAttempt",
    "NewRun",
    "PreparedRun",
    "Rescued",
    "UnreadableClaim",
    "approve_stage_if_waiting",
    "cancel_run_if_open",
    "carry_on",
    "claim_due_stages",
    "claim_stage",
    "create_run",
    "create_runs",
    "fail_attempt_if_held",
    "fail_run_if_budget_spent",
    "fail_spent_runs",
    "find_claims",
    "finish_free_stages",
    "finish_stage_if_held",
    "follow_clock_back",
    "fork_run",
    "prepare_run",
    "record_abandoned_call",
    "release_stage_if_held",
    "request_changes_if_waiting",
    "rescue_expired_leases",
    "retry_run_if_failed",
]
