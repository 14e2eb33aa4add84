-- The words of requests, by which people search runs.
-- oldest build: 0001_runs_and_stages
-- depends: 0019_autoscale
-- deferrable: without it, a search for words reads every run
-- transactional: false

CREATE INDEX CONCURRENTLY runs_search ON runs USING gin (to_tsvector('simple', request));
