-- Fair order between owners, and a cap for each brand.
-- oldest build: 0001_runs_and_stages
-- depends: 0005_worker_workspace

-- Brands first, as a new run locks them: taken after ``runs``, this lock and that of a POST could wait for each other.
ALTER TABLE brands ADD COLUMN max_running integer CHECK (max_running > 0);
COMMENT ON COLUMN brands.max_running IS 'how many of its stages may run at a time; NULL: any number';
CREATE INDEX brands_limited ON brands (id) WHERE max_running IS NOT NULL;

-- A constant default is kept in the catalog and rewrites no row. 0011 drops it, when the indexes are there by which a
-- tag is found.
ALTER TABLE runs ADD COLUMN created_by text, ADD COLUMN start_tag bigint NOT NULL DEFAULT 0;
COMMENT ON COLUMN runs.created_by IS 'who created it; NULL for runs of builds that did not store it';
COMMENT ON COLUMN runs.start_tag IS 'its place between the owners, by start-time fair queueing; 0: from before the tags';
ALTER TABLE stages ADD COLUMN start_tag bigint NOT NULL DEFAULT 0, ADD COLUMN brand_id uuid;
COMMENT ON COLUMN stages.start_tag IS 'that of its run';
COMMENT ON COLUMN stages.brand_id IS 'that of its run; not known where start_tag is 0';
