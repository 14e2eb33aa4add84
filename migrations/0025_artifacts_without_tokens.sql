-- An attempt looks for its artifact among those of its stage: the tokens need no index.
-- oldest build: 0024_fewer_indexes
-- depends: 0024_fewer_indexes
-- deferrable: only an index, by which the build before finds an artifact
-- transactional: false

ALTER TABLE artifacts DROP CONSTRAINT artifacts_attempt_token_key;
