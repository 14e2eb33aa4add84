-- Keys of API clients. Only a digest is kept, so nothing in here opens a door.
-- oldest build: 0001_runs_and_stages
-- depends: 0002_idempotency_keys

CREATE TABLE api_keys (
    id            uuid PRIMARY KEY,
    name          text NOT NULL CHECK (name <> ''),
    secret_sha256 bytea NOT NULL UNIQUE,
    created_at    timestamptz NOT NULL DEFAULT now(),
    expires_at    timestamptz,
    revoked_at    timestamptz,
    last_used_at  timestamptz
);
-- A name says who acted, in timelines too: two keys in force must not share one.
CREATE UNIQUE INDEX api_keys_name_in_force ON api_keys (name) WHERE revoked_at IS NULL;
