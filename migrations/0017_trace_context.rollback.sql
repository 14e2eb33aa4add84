ALTER TABLE stages DROP COLUMN trace_context;
