DROP TABLE sessions;
ALTER TABLE idempotency_keys DROP COLUMN caller_id;
ALTER TABLE runs DROP CONSTRAINT runs_four_eyes_creator;
ALTER TABLE runs DROP COLUMN four_eyes, DROP COLUMN creator_id, DROP COLUMN request_id;
-- The build before takes every key for an admin's.
UPDATE api_keys SET revoked_at = now() WHERE role IS NOT NULL AND revoked_at IS NULL;
ALTER TABLE api_keys DROP COLUMN role;
