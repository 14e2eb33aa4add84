-- Carries a trace from the request that created a run to the worker that carries its stages.
-- oldest build: 0001_runs_and_stages
-- depends: 0016_stages_budgeted

ALTER TABLE stages ADD COLUMN trace_context text;
COMMENT ON COLUMN stages.trace_context IS 'a traceparent of W3C Trace Context; NULL: its run is not traced';
