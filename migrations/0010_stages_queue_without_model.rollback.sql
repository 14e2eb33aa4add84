-- transactional: false

DROP INDEX CONCURRENTLY IF EXISTS stages_queue_without_model;
