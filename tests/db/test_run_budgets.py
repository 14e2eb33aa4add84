"""A run's own budget: no call begins once it is spent, and the run fails; a retry with a higher one goes on."""

from __future__ import annotations

from decimal import Decimal
from typing import Any
from uuid import UUID, uuid4

import pytest

from tests.db.attempts import OVERLOADED, REFUSED, claim, claimed, succeed
from tests.db.spending import CALL_MONEY, CALL_TOKENS, USED, finish
from tests.db.stages import make_due
from tests.support.actors import OPERATOR
from tests.support.runs import CreatedRun, create, read, types
from vm_webapp.access.actor import Actor
from vm_webapp.errors import Conflict, InvalidInput
from vm_webapp.ops import queue_control
from vm_webapp.runs import lifecycle, queries
from vm_webapp.runs.budget import Budget
from vm_webapp.runs.due import find_due
from vm_webapp.runs.signals import stage_due

pytestmark = pytest.mark.usefixtures("database")

ANN = Actor("ann")
BUDGETS = [
    pytest.param(Budget(tokens=CALL_TOKENS), f"{CALL_TOKENS} of {CALL_TOKENS} tokens", id="tokens"),
    pytest.param(Budget(money=CALL_MONEY), "0.25 of 0.25 in money", id="money"),
    pytest.param(Budget(10**9, Decimal("0.1")), "0.25 of 0.1 in money", id="the first that is spent"),
]


def create_within(budget: Budget | None, workflow: str = "plan_90d", **options: Any) -> CreatedRun:
    """Create a run with this budget; one call costs ``USED``."""
    return create(workflow, auto_approve=True, budget=budget, **options)


@pytest.mark.parametrize(("budget", "spent"), BUDGETS)
def test_the_worker_that_spends_a_budget_fails_the_run_before_its_next_call(budget: Budget, spent: str) -> None:
    created = create_within(budget)
    hints: list[UUID] = []
    with stage_due.connected(hints.append):
        finished = finish(claimed(created.stage_id))
    run = queries.get_run(created.run.id)
    assert (finished.next, hints, run.status) == (None, [], "failed")
    assert run.error is not None
    assert (run.error.code, run.error.retryable) == ("budget_exceeded", False)
    assert spent in run.error.message
    assert [stage.status for stage in run.stages] == ["completed", "failed", "pending"]
    assert types(created.run.id)[-3:] == ["stage.queued", "stage.failed", "run.failed"]
    assert run.budget == budget


def test_a_budget_that_is_not_spent_lets_the_same_worker_go_on() -> None:
    created = create_within(Budget(tokens=CALL_TOKENS + 1))
    second = finish(claimed(created.stage_id)).next
    assert second is not None
    assert finish(second).next is None
    assert queries.get_run(created.run.id).status == "failed"


def test_a_budget_that_the_last_call_spends_fails_nothing() -> None:
    created = create_within(Budget(tokens=CALL_TOKENS + 1), "content_calendar")  # of two stages
    second = finish(claimed(created.stage_id)).next
    assert second is not None
    finish(second)
    assert queries.get_run(created.run.id).status == "completed"


def test_a_stage_that_needs_no_model_costs_nothing_and_is_never_held_back() -> None:
    created = create_within(Budget(tokens=1), "smoke")
    succeed(claimed(created.stage_id))
    assert queries.get_run(created.run.id).status == "completed"


def overspend_by_a_failure() -> CreatedRun:
    """Return a run whose only call so far has failed, and has spent its budget."""
    created = create_within(Budget(tokens=CALL_TOKENS))
    assert lifecycle.fail_attempt_if_held(claimed(created.stage_id), OVERLOADED, jitter=0, usage=USED) == "retrying"
    return created


def test_a_run_that_was_queued_again_in_another_way_is_found() -> None:
    """It need not be due: to wait for the time of the next try would change nothing."""
    spent, others = overspend_by_a_failure(), [create_within(Budget(tokens=1)), create_within(None)]
    assert lifecycle.fail_spent_runs() == 1
    assert queries.get_run(spent.run.id).status == "failed"
    assert [queries.get_run(each.run.id).status for each in others] == ["queued", "queued"]
    assert lifecycle.fail_spent_runs() == 0


def test_until_it_fails_the_stage_is_neither_found_nor_claimed_nor_demand() -> None:
    created = overspend_by_a_failure()
    make_due()
    waiting = queries.get_run(created.run.id).waiting_on
    assert waiting is not None
    assert waiting.kind in ("run_budget", "provider_paused")
    assert find_due("kimi", 9, cap=None).ids == ()
    assert claim(created.stage_id) is None
    assert queue_control.read_queue().desired_workers == 1
    lifecycle.fail_spent_runs()
    assert types(created.run.id)[-1] == "run.failed"


def test_a_retry_with_a_higher_budget_goes_on_and_counts_what_was_spent() -> None:
    created = create_within(Budget(tokens=CALL_TOKENS))
    finish(claimed(created.stage_id))
    raised = Budget(tokens=2 * CALL_TOKENS)
    lifecycle.retry_run_if_failed(created.run.id, from_stage=None, actor=ANN, budget=raised)
    (next_stage,) = find_due("kimi", 9, cap=None).ids
    assert finish(claimed(next_stage)).next is None
    run = queries.get_run(created.run.id)
    assert (run.status, run.budget) == ("failed", raised)
    assert run.error is not None
    assert "200 of 200 tokens" in run.error.message


def test_a_retry_gives_a_budget_to_a_run_that_had_none() -> None:
    created = create_within(None)
    held = claimed(created.stage_id)
    lifecycle.fail_attempt_if_held(held, REFUSED, jitter=0, usage=USED)
    lifecycle.retry_run_if_failed(created.run.id, from_stage=None, actor=ANN, budget=Budget(tokens=2 * CALL_TOKENS))
    assert finish(claimed(created.stage_id)).next is None
    assert queries.get_run(created.run.id).status == "failed"


def test_a_retry_without_a_higher_budget_fails_again_and_one_that_is_spent_is_refused() -> None:
    created = create_within(Budget(tokens=CALL_TOKENS))
    finish(claimed(created.stage_id))
    with pytest.raises(InvalidInput, match="100 of 100 tokens"):
        lifecycle.retry_run_if_failed(created.run.id, from_stage=None, actor=ANN, budget=Budget(tokens=CALL_TOKENS))
    lifecycle.retry_run_if_failed(created.run.id, from_stage=None, actor=ANN)
    assert find_due("kimi", 9, cap=None).ids == ()
    assert lifecycle.fail_spent_runs() == 1
    with pytest.raises(Conflict):
        lifecycle.retry_run_if_failed(created.run.id, from_stage="plan", actor=ANN)


def test_the_audit_trail_says_which_budget_was_given() -> None:
    created = create_within(Budget(100, Decimal("0.50")))
    finish(claimed(created.stage_id))
    lifecycle.retry_run_if_failed(created.run.id, from_stage=None, actor=OPERATOR, budget=Budget(tokens=1000))
    given = read("SELECT data FROM audit_entries WHERE target = %(run)s ORDER BY id", run=f"run:{created.run.id}")
    assert [each["data"] for each in given] == [
        {"workflow": "plan_90d", "budget_tokens": 100, "budget_money": "0.5"},
        {"from_stage": "strategy", "budget_tokens": 1000},
    ]


def test_a_fork_has_the_budget_and_has_spent_nothing_of_it() -> None:
    created = create_within(Budget(tokens=CALL_TOKENS))
    finish(claimed(created.stage_id))
    forked = lifecycle.fork_run(created.run.id, from_stage="strategy", request=None, actor=ANN)
    assert forked.budget == Budget(tokens=CALL_TOKENS)
    (stage,) = find_due("kimi", 9, cap=None).ids
    assert finish(claimed(stage)).next is None
    assert queries.get_run(forked.id).status == "failed"


def test_a_run_that_another_transaction_changes_is_left_for_the_next_time() -> None:
    created = overspend_by_a_failure()
    lifecycle.cancel_run_if_open(created.run.id, actor=ANN)
    assert not lifecycle.fail_run_if_budget_spent(created.run.id)
    assert not lifecycle.fail_run_if_budget_spent(uuid4())
    assert queries.get_run(created.run.id).status == "canceled"


@pytest.mark.parametrize(("tokens", "money"), [(None, None), (0, None), (None, Decimal(0)), (-1, Decimal(1))])
def test_a_budget_limits_something_and_is_more_than_nothing(tokens: int | None, money: Decimal | None) -> None:
    with pytest.raises(ValueError, match="budget"):
        Budget(tokens, money)
