-- Smaller indexes: none that another makes superfluous, and those by time in the order in which they grow.
-- oldest build: 0021_run_lists
-- depends: 0023_snapshots_only
-- deferrable: only indexes
-- transactional: false

-- A workflow's keys differ, and a run has few stages: the index on their positions finds them.
ALTER TABLE stages DROP CONSTRAINT stages_run_id_key_key;
-- Each step of a stage changes a column of an index, so that no update stays on its page for the sake of the indexes.
ALTER TABLE stages SET (fillfactor = 100);
-- One entry lists all rows of a run, which has few; there is one for each row where the key differs in each.
CREATE INDEX CONCURRENTLY events_of_run ON events (run_id);
DROP INDEX CONCURRENTLY events_by_run;
-- New rows come last, so that pages are filled: in a descending index they come first, and each split leaves half.
CREATE INDEX CONCURRENTLY runs_by_age ON runs (created_at, id);
DROP INDEX CONCURRENTLY runs_newest;
CREATE INDEX CONCURRENTLY runs_by_status ON runs (status, created_at, id);
DROP INDEX CONCURRENTLY runs_newest_by_status;
CREATE INDEX CONCURRENTLY runs_by_workflow ON runs (workflow, created_at, id);
DROP INDEX CONCURRENTLY runs_newest_by_workflow;
CREATE INDEX CONCURRENTLY runs_by_brand ON runs (brand_id, created_at, id) WHERE brand_id IS NOT NULL;
DROP INDEX CONCURRENTLY runs_newest_by_brand;
CREATE INDEX CONCURRENTLY runs_by_project ON runs (project_id, created_at, id) WHERE project_id IS NOT NULL;
DROP INDEX CONCURRENTLY runs_newest_by_project;
-- The order of claims since 0009 and 0010 is another.
DROP INDEX CONCURRENTLY stages_due;
DROP INDEX CONCURRENTLY stages_due_without_model;
