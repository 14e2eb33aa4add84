-- The queued stages of runs with a budget, to find those whose budget is spent.
-- oldest build: 0001_runs_and_stages
-- depends: 0015_usage
-- deferrable: without it, the search for spent budgets reads the queue
-- transactional: false

CREATE INDEX CONCURRENTLY stages_budgeted ON stages (run_id) WHERE status = 'queued' AND budgeted;
