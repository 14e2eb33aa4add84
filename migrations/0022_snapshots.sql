-- What runs were created with, stored once: a version of a workflow, a brand or a project, by the digest of its content.
-- oldest build: 0001_runs_and_stages
-- depends: 0021_run_lists

CREATE TABLE snapshots (
    digest     bytea PRIMARY KEY CHECK (length(digest) = 32),
    content    jsonb NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now()
);
COMMENT ON COLUMN snapshots.digest IS 'SHA-256 of the content, see vm_webapp/digest.py';
-- A few rows that claims read again and again.
ALTER TABLE snapshots ALTER COLUMN content SET STORAGE EXTERNAL;

ALTER TABLE runs ADD COLUMN workflow_digest bytea, ADD COLUMN brand_digest bytea, ADD COLUMN project_digest bytea;
COMMENT ON COLUMN runs.workflow_digest IS 'its row of snapshots; NULL while all three are in the column snapshot only';

-- The build before reads the column snapshot, which this one does not write.
CREATE FUNCTION write_run_snapshot() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.snapshot := jsonb_build_object(
        'workflow', (SELECT content FROM snapshots WHERE digest = NEW.workflow_digest),
        'brand', (SELECT content FROM snapshots WHERE digest = NEW.brand_digest),
        'project', (SELECT content FROM snapshots WHERE digest = NEW.project_digest));
    RETURN NEW;
END $$;
CREATE TRIGGER write_run_snapshot BEFORE INSERT OR UPDATE OF snapshot ON runs
    FOR EACH ROW WHEN (NEW.snapshot IS NULL AND NEW.workflow_digest IS NOT NULL) EXECUTE FUNCTION write_run_snapshot();
