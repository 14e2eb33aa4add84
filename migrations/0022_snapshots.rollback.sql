DROP TRIGGER write_run_snapshot ON runs;
DROP FUNCTION write_run_snapshot();
ALTER TABLE runs DROP COLUMN workflow_digest, DROP COLUMN brand_digest, DROP COLUMN project_digest;
DROP TABLE snapshots;
