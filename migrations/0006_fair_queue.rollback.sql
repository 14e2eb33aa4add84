ALTER TABLE brands DROP COLUMN max_running;
ALTER TABLE runs DROP COLUMN start_tag, DROP COLUMN created_by;
ALTER TABLE stages DROP COLUMN start_tag, DROP COLUMN brand_id;
