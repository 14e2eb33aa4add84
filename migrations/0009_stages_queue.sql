-- The queue in its fair order. The build before needs stages_due, which a later migration drops.
-- oldest build: 0001_runs_and_stages
-- depends: 0008_runs_of_owner
-- deferrable: without it, a claim sorts the queue
-- transactional: false

CREATE INDEX CONCURRENTLY stages_queue ON stages (priority, start_tag, run_id) WHERE status = 'queued';
