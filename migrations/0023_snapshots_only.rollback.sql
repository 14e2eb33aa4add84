-- transactional: false

DROP INDEX CONCURRENTLY runs_unmoved;
CREATE TRIGGER write_run_snapshot BEFORE INSERT OR UPDATE OF snapshot ON runs
    FOR EACH ROW WHEN (NEW.snapshot IS NULL AND NEW.workflow_digest IS NOT NULL) EXECUTE FUNCTION write_run_snapshot();
-- The trigger writes what is missing, in batches that commit. What they have written stays if this is stopped.
DO $$
DECLARE
    after uuid := '00000000-0000-0000-0000-000000000000';
BEGIN
    LOOP
        WITH missing AS MATERIALIZED (
            SELECT id FROM runs WHERE id > after AND snapshot IS NULL ORDER BY id LIMIT 500
        ), filled AS (
            UPDATE runs SET snapshot = NULL FROM missing WHERE runs.id = missing.id AND runs.snapshot IS NULL
        )
        SELECT id INTO after FROM missing ORDER BY id DESC LIMIT 1;
        COMMIT;
        EXIT WHEN after IS NULL;
    END LOOP;
    ALTER TABLE runs DROP CONSTRAINT IF EXISTS runs_snapshot_filled,
                     ADD CONSTRAINT runs_snapshot_filled CHECK (snapshot IS NOT NULL) NOT VALID;
    COMMIT;
    ALTER TABLE runs VALIDATE CONSTRAINT runs_snapshot_filled;
    COMMIT;
    ALTER TABLE runs ALTER COLUMN snapshot SET NOT NULL, DROP CONSTRAINT runs_snapshot_filled;
END $$;
DROP INDEX CONCURRENTLY runs_of_project;
DROP INDEX CONCURRENTLY runs_of_brand;
DROP INDEX CONCURRENTLY runs_of_workflow;
-- For VALIDATE, which has nothing to undo: the statements of both files are each other's undoing, in pairs.
SELECT 1;
ALTER TABLE runs DROP CONSTRAINT runs_snapshot_check;
ALTER TABLE runs
    DROP CONSTRAINT runs_project_digest_fkey,
    DROP CONSTRAINT runs_brand_digest_fkey,
    DROP CONSTRAINT runs_workflow_digest_fkey;
