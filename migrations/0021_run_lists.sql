-- Runs that were put away, and views of the list of runs that people have saved.
-- oldest build: 0001_runs_and_stages
-- depends: 0020_runs_search

ALTER TABLE runs ADD COLUMN archived_at timestamptz;
COMMENT ON COLUMN runs.archived_at IS 'since when lists leave it out, unless they are asked for what is archived';

CREATE TABLE saved_views (
    id         uuid PRIMARY KEY,
    owner      text NOT NULL,
    name       text NOT NULL CHECK (name <> ''),
    query      text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    UNIQUE (owner, name)
);
COMMENT ON COLUMN saved_views.owner IS 'the id of the caller whose view it is';
COMMENT ON COLUMN saved_views.query IS 'filters and order, as in the address of the list';
