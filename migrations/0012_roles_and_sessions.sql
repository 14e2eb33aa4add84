-- Roles of keys, sessions of browsers, the ids of callers, and runs whose reviews somebody else than their creator
-- decides.
-- oldest build: 0001_runs_and_stages
-- depends: 0011_tag_every_run

ALTER TABLE api_keys ADD COLUMN role text CHECK (role IN ('viewer', 'editor', 'operator', 'admin'));
COMMENT ON COLUMN api_keys.role IS 'NULL: an admin''s key, made without a role or by a build that knew none';

ALTER TABLE idempotency_keys ADD COLUMN caller_id text;
COMMENT ON COLUMN idempotency_keys.caller_id IS 'as creator_id of runs: a name is free again when its key is revoked';

-- A constant default is kept in the catalog and rewrites no row.
ALTER TABLE runs ADD COLUMN four_eyes boolean NOT NULL DEFAULT false, ADD COLUMN creator_id text,
    ADD COLUMN request_id text;
COMMENT ON COLUMN runs.four_eyes IS 'whether somebody else than its creator decides its reviews';
COMMENT ON COLUMN runs.creator_id IS 'the id of the key that created it, or token; NULL where the caller was not known';
COMMENT ON COLUMN runs.request_id IS 'X-Request-ID of the request that created it';
-- NOT VALID: no row breaks it, and reading them all would hold the lock.
ALTER TABLE runs ADD CONSTRAINT runs_four_eyes_creator CHECK (NOT four_eyes OR creator_id IS NOT NULL) NOT VALID;

CREATE TABLE sessions (
    id            uuid PRIMARY KEY,
    secret_sha256 bytea NOT NULL UNIQUE,
    key_id        uuid REFERENCES api_keys ON DELETE CASCADE,
    token_sha256  bytea,
    created_at    timestamptz NOT NULL DEFAULT now(),
    last_seen_at  timestamptz NOT NULL DEFAULT now(),
    ended_at      timestamptz,
    address       text,
    user_agent    text,
    CHECK (num_nonnulls(key_id, token_sha256) = 1)
);
COMMENT ON COLUMN sessions.token_sha256 IS 'of the VM_API_TOKEN that opened it: the session ends when that is changed';
CREATE INDEX sessions_of_key ON sessions (key_id);
