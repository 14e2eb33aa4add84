-- What failed model calls cost, and what a reader should know of how an artifact was written.
-- oldest build: 0001_runs_and_stages
-- depends: 0003_api_keys

ALTER TABLE stages
    ADD COLUMN failed_prompt_tokens integer NOT NULL DEFAULT 0,
    ADD COLUMN failed_completion_tokens integer NOT NULL DEFAULT 0;
COMMENT ON COLUMN stages.failed_prompt_tokens IS 'tokens that failed calls read, as far as the server counted them';
COMMENT ON COLUMN stages.failed_completion_tokens IS 'tokens that failed calls wrote, reasoning included, likewise';
ALTER TABLE artifacts ADD COLUMN note text;
