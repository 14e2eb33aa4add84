-- What callers have used of their limits: a row for each, which counts anew when its time is over.
-- oldest build: 0001_runs_and_stages
-- depends: 0013_audit

-- Unlogged: a request must not wait for the disk, and after a crash of PostgreSQL everybody may begin a new minute.
CREATE UNLOGGED TABLE rate_windows (
    counted  text PRIMARY KEY,
    began_at timestamptz NOT NULL,
    taken    bigint NOT NULL
) WITH (fillfactor = 50);
CREATE TABLE runs_of_day (
    key_id uuid PRIMARY KEY REFERENCES api_keys ON DELETE CASCADE,
    day    date NOT NULL,
    runs   integer NOT NULL
) WITH (fillfactor = 50);
