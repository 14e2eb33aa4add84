DROP TRIGGER tag_run ON runs;
DROP FUNCTION tag_run();
ALTER TABLE runs ALTER COLUMN start_tag SET DEFAULT 0;
DROP TRIGGER tag_stage ON stages;
DROP FUNCTION tag_stage();
ALTER TABLE stages ALTER COLUMN start_tag SET DEFAULT 0;
