-- transactional: false

DROP INDEX CONCURRENTLY IF EXISTS stages_budgeted;
