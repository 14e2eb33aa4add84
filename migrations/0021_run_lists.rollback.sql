DROP TABLE saved_views;
ALTER TABLE runs DROP COLUMN archived_at;
