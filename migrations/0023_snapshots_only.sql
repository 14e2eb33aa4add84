-- Runs keep what they were created with as snapshots only: the build before no longer has to find it in their own row.
-- oldest build: 0022_snapshots
-- depends: 0022_snapshots
-- deferrable: the last step of a contraction; until then new runs have a document of their own as well
-- transactional: false

ALTER TABLE runs
    ADD CONSTRAINT runs_workflow_digest_fkey FOREIGN KEY (workflow_digest) REFERENCES snapshots NOT VALID,
    ADD CONSTRAINT runs_brand_digest_fkey FOREIGN KEY (brand_digest) REFERENCES snapshots NOT VALID,
    ADD CONSTRAINT runs_project_digest_fkey FOREIGN KEY (project_digest) REFERENCES snapshots NOT VALID;
ALTER TABLE runs ADD CONSTRAINT runs_snapshot_check
    CHECK (workflow_digest IS NOT NULL OR snapshot IS NOT NULL) NOT VALID;
ALTER TABLE runs
    VALIDATE CONSTRAINT runs_workflow_digest_fkey,
    VALIDATE CONSTRAINT runs_brand_digest_fkey,
    VALIDATE CONSTRAINT runs_project_digest_fkey,
    VALIDATE CONSTRAINT runs_snapshot_check;
CREATE INDEX CONCURRENTLY runs_of_workflow ON runs (workflow_digest);
CREATE INDEX CONCURRENTLY runs_of_brand ON runs (brand_digest) WHERE brand_digest IS NOT NULL;
CREATE INDEX CONCURRENTLY runs_of_project ON runs (project_digest) WHERE project_digest IS NOT NULL;
ALTER TABLE runs ALTER COLUMN snapshot DROP NOT NULL;
DROP TRIGGER write_run_snapshot ON runs;
-- The last: where it is, workers move the documents and purges delete snapshots.
CREATE INDEX CONCURRENTLY runs_unmoved ON runs (id) WHERE snapshot IS NOT NULL;
