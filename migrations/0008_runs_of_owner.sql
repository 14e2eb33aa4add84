-- Which tag an owner's newest run has; a run that was canceled before it began took no turn.
-- oldest build: 0001_runs_and_stages
-- depends: 0007_runs_begun
-- deferrable: without it, creating a run reads every run
-- transactional: false

CREATE INDEX CONCURRENTLY runs_of_owner ON runs (coalesce(brand_id::text, created_by), priority, start_tag)
 WHERE started_at IS NOT NULL OR status <> 'canceled';
