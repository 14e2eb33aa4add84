-- Answers that are given again when a request is repeated under its Idempotency-Key.
-- depends: 0001_runs_and_stages
-- oldest build: 0001_runs_and_stages

CREATE TABLE idempotency_keys (
    scope_sha256   bytea PRIMARY KEY,
    request_sha256 bytea NOT NULL,
    status         smallint NOT NULL CHECK (status BETWEEN 200 AND 299),
    headers        jsonb NOT NULL,
    body           bytea NOT NULL,
    created_at     timestamptz NOT NULL DEFAULT now()
);
COMMENT ON COLUMN idempotency_keys.scope_sha256 IS 'digest of caller, method, path and key';
CREATE INDEX idempotency_keys_oldest ON idempotency_keys (created_at);
