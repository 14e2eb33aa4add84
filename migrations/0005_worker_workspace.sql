-- What a worker knows of its workspace folder: only it can tell whether it can write there.
-- oldest build: 0001_runs_and_stages
-- depends: 0004_partial_calls

ALTER TABLE worker_heartbeats ADD COLUMN workspace jsonb;
COMMENT ON COLUMN worker_heartbeats.workspace IS 'the folder, whether it can be written, and its free bytes';
