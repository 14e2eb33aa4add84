"""Finds queued stages of runs whose own budget is spent."""

from __future__ import annotations

from vm_webapp.runs.admission import RUN_BUDGET

# What waits for its very first call has spent nothing: long queues of new runs with budgets are passed over quickly.
FIND_SPENT_RUNS = f"""
    SELECT run_id FROM stages
     WHERE status = 'queued' AND budgeted AND (position > 1 OR attempt > 0) AND {RUN_BUDGET.holds_back}
     LIMIT %(limit)s
"""
"""The ``run_id`` of up to ``limit`` runs that wait for a call which their budget does not pay for.

It reads the index ``stages_budgeted``, which is empty where no run has a budget.
"""

FIND_SPENT_STAGE = f"""
    SELECT stages.id, stages.key, r.budget_tokens, r.budget_money, spent.tokens, spent.money
      FROM stages JOIN runs r ON r.id = stages.run_id
           CROSS JOIN LATERAL (SELECT sum(spent_tokens)::bigint AS tokens, sum(spent_money) AS money
                                 FROM stages of_run WHERE of_run.run_id = r.id) spent
     WHERE stages.run_id = %(run_id)s AND stages.status = 'queued' AND {RUN_BUDGET.holds_back}
"""
"""The queued stage of the run ``run_id`` that its budget holds back, and the budget with what has been spent of it."""
