-- From here on every run has a tag: the build before writes none, so its rows get theirs here.
-- oldest build: 0001_runs_and_stages
-- depends: 0010_stages_queue_without_model

ALTER TABLE runs ALTER COLUMN start_tag DROP DEFAULT;
ALTER TABLE stages ALTER COLUMN start_tag DROP DEFAULT;
-- The rule of vm_webapp/runs/fair_order.py.
CREATE FUNCTION tag_run() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.start_tag := greatest(
        1,
        (SELECT max(start_tag) FROM runs WHERE priority = NEW.priority AND started_at IS NOT NULL),
        (SELECT max(start_tag) + 1 FROM runs
          WHERE coalesce(brand_id::text, created_by) = coalesce(NEW.brand_id::text, NEW.created_by)
            AND priority = NEW.priority AND (started_at IS NOT NULL OR status <> 'canceled')));
    RETURN NEW;
END $$;
CREATE TRIGGER tag_run BEFORE INSERT ON runs FOR EACH ROW WHEN (NEW.start_tag IS NULL) EXECUTE FUNCTION tag_run();
CREATE FUNCTION tag_stage() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    SELECT start_tag, brand_id INTO NEW.start_tag, NEW.brand_id FROM runs WHERE id = NEW.run_id;
    NEW.start_tag := coalesce(NEW.start_tag, 0);
    RETURN NEW;
END $$;
CREATE TRIGGER tag_stage BEFORE INSERT ON stages FOR EACH ROW WHEN (NEW.start_tag IS NULL) EXECUTE FUNCTION tag_stage();
