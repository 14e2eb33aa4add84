-- transactional: false

CREATE UNIQUE INDEX CONCURRENTLY artifacts_attempt_token_key ON artifacts (attempt_token);
ALTER TABLE artifacts ADD CONSTRAINT artifacts_attempt_token_key UNIQUE USING INDEX artifacts_attempt_token_key;
