-- transactional: false

CREATE INDEX CONCURRENTLY stages_due_without_model ON stages (priority, run_id)
    WHERE status = 'queued' AND NOT needs_model;
CREATE INDEX CONCURRENTLY stages_due ON stages (priority, run_id) WHERE status = 'queued';
CREATE INDEX CONCURRENTLY runs_newest_by_project ON runs (project_id, created_at DESC, id DESC)
    WHERE project_id IS NOT NULL;
DROP INDEX CONCURRENTLY runs_by_project;
CREATE INDEX CONCURRENTLY runs_newest_by_brand ON runs (brand_id, created_at DESC, id DESC) WHERE brand_id IS NOT NULL;
DROP INDEX CONCURRENTLY runs_by_brand;
CREATE INDEX CONCURRENTLY runs_newest_by_workflow ON runs (workflow, created_at DESC, id DESC);
DROP INDEX CONCURRENTLY runs_by_workflow;
CREATE INDEX CONCURRENTLY runs_newest_by_status ON runs (status, created_at DESC, id DESC);
DROP INDEX CONCURRENTLY runs_by_status;
CREATE INDEX CONCURRENTLY runs_newest ON runs (created_at DESC, id DESC);
DROP INDEX CONCURRENTLY runs_by_age;
CREATE INDEX CONCURRENTLY events_by_run ON events (run_id, id);
DROP INDEX CONCURRENTLY events_of_run;
CREATE UNIQUE INDEX CONCURRENTLY stages_run_id_key_key ON stages (run_id, key);
ALTER TABLE stages ADD CONSTRAINT stages_run_id_key_key UNIQUE USING INDEX stages_run_id_key_key, SET (fillfactor = 80);
