-- The metrics of each API and worker process: any API answers a scrape for all of them.
-- oldest build: 0001_runs_and_stages
-- depends: 0017_trace_context

CREATE TABLE process_metrics (
    process_id uuid PRIMARY KEY,
    kind       text NOT NULL CHECK (kind IN ('api', 'worker')),
    instance   text NOT NULL,
    gone       boolean NOT NULL DEFAULT false,
    samples    jsonb NOT NULL,
    written_at timestamptz NOT NULL DEFAULT now()
) WITH (fillfactor = 50);
COMMENT ON COLUMN process_metrics.instance IS 'host and process, as the label of that name shows it';
COMMENT ON COLUMN process_metrics.gone IS 'the sum of all processes of its kind whose rows were purged';
CREATE UNIQUE INDEX process_metrics_gone ON process_metrics (kind) WHERE gone;
