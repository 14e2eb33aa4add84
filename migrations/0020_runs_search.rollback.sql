-- transactional: false

DROP INDEX CONCURRENTLY IF EXISTS runs_search;
