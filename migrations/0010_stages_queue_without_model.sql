-- The same of the stages that need no model, as stages_due_without_model is for the build before.
-- oldest build: 0001_runs_and_stages
-- depends: 0009_stages_queue
-- deferrable: without it, a claim reads the queue
-- transactional: false

CREATE INDEX CONCURRENTLY stages_queue_without_model ON stages (priority, start_tag, run_id)
 WHERE status = 'queued' AND NOT needs_model;
