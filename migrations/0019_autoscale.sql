-- How many workers there should be, what that follows from, and the calls that changed their number.
-- oldest build: 0001_runs_and_stages
-- depends: 0018_process_metrics

-- An unknown zone is an error of PostgreSQL, and would stop every claim; a database that was restored elsewhere may
-- know fewer zones than the one in which a brand was given its own.
CREATE FUNCTION zone_or_utc(zone text) RETURNS text LANGUAGE plpgsql STABLE AS $$
BEGIN
    IF zone <> 'UTC' THEN
        PERFORM statement_timestamp() AT TIME ZONE zone;
    END IF;
    RETURN zone;
EXCEPTION WHEN invalid_parameter_value THEN
    RETURN 'UTC';
END $$;

-- Which process does what only one may do at a time.
CREATE TABLE duty_leases (
    name       text PRIMARY KEY,
    token      uuid NOT NULL,
    holder     text NOT NULL,
    details    jsonb NOT NULL DEFAULT '{}',
    expires_at timestamptz NOT NULL
) WITH (fillfactor = 50);
COMMENT ON COLUMN duty_leases.token IS 'new with each holder, who names it in all that it writes';

CREATE TABLE autoscale_decision (
    one                    boolean PRIMARY KEY DEFAULT true CHECK (one),
    decided_at             timestamptz NOT NULL,
    desired_workers        integer NOT NULL CHECK (desired_workers >= 0),
    reason                 text NOT NULL,
    arrivals_per_minute    double precision NOT NULL,
    completions_per_minute double precision NOT NULL,
    mean_stage_seconds     double precision,
    min_workers            integer NOT NULL,
    max_workers            integer NOT NULL,
    target_wait_seconds    double precision NOT NULL,
    figures                jsonb NOT NULL,
    past                   jsonb NOT NULL
) WITH (fillfactor = 50);
COMMENT ON COLUMN autoscale_decision.mean_stage_seconds IS 'NULL: no stage has ended yet';
COMMENT ON COLUMN autoscale_decision.figures IS 'all that the decision was made from';
COMMENT ON COLUMN autoscale_decision.past IS 'the decisions before, as far as the next ones look back';

CREATE TABLE queue_history (
    at                 timestamptz PRIMARY KEY DEFAULT clock_timestamp(),
    queued             integer NOT NULL,
    due                integer NOT NULL,
    running            integer NOT NULL,
    oldest_due_seconds double precision NOT NULL,
    workers            integer NOT NULL,
    slots              integer NOT NULL,
    in_flight          integer NOT NULL,
    desired_workers    integer NOT NULL,
    reason             text NOT NULL
);

CREATE TABLE scale_calls (
    id      bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at      timestamptz NOT NULL DEFAULT clock_timestamp(),
    service text NOT NULL,
    was     integer,
    wanted  integer NOT NULL,
    outcome text NOT NULL CHECK (outcome IN ('scaled', 'dry_run', 'refused', 'failed', 'differs')),
    detail  text NOT NULL
);
COMMENT ON COLUMN scale_calls.was IS 'the number of instances before; NULL: unknown';
COMMENT ON COLUMN scale_calls.outcome IS 'differs: the platform accepted the number and then had another one';

-- For scalers that read SQL: one row, whose desired_workers is never NULL. It is the number of autoscale_decision. If
-- that was decided more than 30 seconds ago, it is as many workers as could run all work at once, within the same
-- limits; what is measured over a minute is then NULL. The rules by which stages wait are those of claims.
CREATE VIEW autoscale_signal AS
    WITH newest AS (
        SELECT provider, llm_cap, slots FROM worker_heartbeats ORDER BY last_tick_at DESC, worker_id LIMIT 1
    ), alive AS MATERIALIZED (
        SELECT provider, llm_cap, state, slots, in_flight
          FROM worker_heartbeats
         WHERE state <> 'stopped'
           AND last_tick_at BETWEEN clock_timestamp() - interval '6 s' AND clock_timestamp() + interval '6 s'
    ), fleet AS MATERIALIZED (
        SELECT (count(*) FILTER (WHERE state = 'working'))::integer AS workers,
               (coalesce(sum(slots) FILTER (WHERE state = 'working'), 0))::integer AS slots,
               (coalesce(sum(in_flight) FILTER (WHERE state = 'working'), 0))::integer AS in_flight,
               (count(*) FILTER (WHERE state = 'draining'))::integer AS draining,
               coalesce(ceil(avg(slots) FILTER (WHERE state = 'working')), (SELECT slots FROM newest), 32) AS slots_each
          FROM alive
    ), may_call AS (
        -- For each group of workers that could grow: whether a person must act before it calls its provider again, and
        -- how many more calls may begin; NULL for any number. A pause that ends by itself is no reason to shrink.
        SELECT paused_at IS NOT NULL AND paused_until IS NULL AS stopped,
               CASE WHEN paused_at IS NULL AND llm_cap IS NOT NULL
                    THEN greatest(0, llm_cap - (SELECT count(*) FROM stages
                                                 WHERE status = 'running' AND needs_model
                                                   AND stages.provider = each_group.provider))
                    WHEN paused_at IS NOT NULL AND paused_until IS NULL THEN 0 END AS room
          FROM (SELECT DISTINCT provider, llm_cap FROM alive WHERE state = 'working'
                UNION ALL
                SELECT provider, llm_cap FROM newest
                 WHERE NOT EXISTS (SELECT FROM alive WHERE state = 'working')) each_group
          LEFT JOIN providers ON providers.name = each_group.provider
    ), spent_brands AS MATERIALIZED (
        SELECT brands.id
          FROM brands
         CROSS JOIN LATERAL (
               SELECT coalesce(sum(tokens), 0) AS tokens, coalesce(sum(money), 0) AS money
                 FROM (SELECT prompt_tokens + completion_tokens AS tokens, money FROM usage_days
                        WHERE usage_days.brand_id = brands.id
                          AND usage_days.day = (statement_timestamp() AT TIME ZONE zone_or_utc(brands.time_zone))::date
                       UNION ALL
                       SELECT prompt_tokens + completion_tokens, money FROM unsummed_calls
                        WHERE unsummed_calls.brand_id = brands.id
                          AND unsummed_calls.day = (statement_timestamp() AT TIME ZONE zone_or_utc(brands.time_zone))::date) calls
               ) used
         WHERE (day_budget_tokens IS NOT NULL OR day_budget_money IS NOT NULL)
           AND (used.tokens >= day_budget_tokens OR used.money >= day_budget_money)
    ), late AS MATERIALIZED (
        SELECT needs_model, available_at, priority, start_tag, run_id,
               CASE WHEN start_tag > 0 THEN brand_id
                    ELSE (SELECT brand_id FROM runs WHERE runs.id = stages.run_id) END AS brand_id
          FROM stages
         WHERE status = 'queued' AND available_at <= clock_timestamp()
           AND NOT (needs_model AND EXISTS (
               SELECT 1 FROM spent_brands
                WHERE id = CASE WHEN stages.start_tag > 0 THEN stages.brand_id
                                ELSE (SELECT brand_id FROM runs WHERE runs.id = stages.run_id) END))
           AND NOT (needs_model AND budgeted AND coalesce((
               SELECT sum(of_run.spent_tokens) >= min(runs.budget_tokens)
                      OR sum(of_run.spent_money) >= min(runs.budget_money)
                 FROM runs JOIN stages of_run ON of_run.run_id = runs.id WHERE runs.id = stages.run_id), false))
    ), limits AS MATERIALIZED (
        SELECT id, max_running - (SELECT count(*) FROM stages held
                                   WHERE held.status = 'running'
                                     AND CASE WHEN held.start_tag > 0 THEN held.brand_id
                                              ELSE (SELECT brand_id FROM runs WHERE runs.id = held.run_id) END
                                         = brands.id) AS room
          FROM brands WHERE max_running IS NOT NULL
    ), over_limit AS (
        SELECT count(*) FILTER (WHERE needs_model) AS calls, count(*) FILTER (WHERE NOT needs_model) AS others
          FROM (SELECT needs_model, room,
                       row_number() OVER (PARTITION BY brand_id ORDER BY priority, start_tag, run_id) AS place
                  FROM late JOIN limits ON limits.id = brand_id) numbered
         WHERE place > room
    ), due AS (
        SELECT count(*)::integer AS due,
               count(*) FILTER (WHERE needs_model) - (SELECT calls FROM over_limit) AS calls,
               count(*) FILTER (WHERE NOT needs_model) - (SELECT others FROM over_limit) AS others,
               coalesce(extract(epoch FROM clock_timestamp() - min(available_at)), 0)::double precision AS seconds
          FROM late
    ), counted AS MATERIALIZED (
        SELECT (SELECT count(*) FROM stages WHERE status = 'queued')::integer AS queued,
               (SELECT count(*) FROM stages WHERE status = 'running')::integer AS running,
               EXISTS (SELECT 1 FROM queues WHERE name = 'stages' AND paused_at IS NOT NULL) AS paused
    ), work AS (
        SELECT CASE WHEN paused THEN in_flight
                    WHEN (SELECT bool_and(stopped) FROM may_call) THEN in_flight + others
                    ELSE running + others + coalesce((SELECT max(least(calls, room)) FROM may_call), calls)
               END AS stages
          FROM fleet, due, counted
    ), stored AS (
        SELECT *, decided_at BETWEEN clock_timestamp() - interval '30 s'
                                 AND clock_timestamp() + interval '30 s' AS fresh
          FROM autoscale_decision
    )
    SELECT queued, due, running, due.seconds AS oldest_due_seconds,
           CASE WHEN fresh THEN arrivals_per_minute END AS arrivals_per_minute,
           CASE WHEN fresh THEN completions_per_minute END AS completions_per_minute,
           workers, slots, in_flight, draining,
           CASE WHEN fresh THEN mean_stage_seconds END AS mean_stage_seconds,
           CASE WHEN fresh THEN desired_workers
                ELSE least(coalesce(max_workers, 10),
                           greatest(coalesce(min_workers, 1), ceil(work.stages / slots_each)))::integer
           END AS desired_workers,
           CASE WHEN fresh THEN stored.reason
                ELSE 'no decision in the last 30 s: enough workers for all work at once'
           END AS reason,
           decided_at, NOT coalesce(fresh, false) AS stale,
           coalesce(min_workers, 1) AS min_workers, coalesce(max_workers, 10) AS max_workers,
           coalesce(target_wait_seconds, 30) AS target_wait_seconds
      FROM fleet, due, counted, work
      LEFT JOIN stored ON true;
