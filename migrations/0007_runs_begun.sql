-- Which tag the run has that began last in its turn.
-- oldest build: 0001_runs_and_stages
-- depends: 0006_fair_queue
-- deferrable: without it, creating a run reads every run
-- transactional: false

CREATE INDEX CONCURRENTLY runs_begun ON runs (priority, start_tag) WHERE started_at IS NOT NULL;
