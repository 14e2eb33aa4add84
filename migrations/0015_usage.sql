-- What model calls have cost, by stage and by day, and the budgets of runs and brands.
-- oldest build: 0001_runs_and_stages
-- depends: 0014_rate_limits

-- Brands first, as a new run locks them.
ALTER TABLE brands
    ADD COLUMN time_zone text NOT NULL DEFAULT 'UTC',
    ADD COLUMN day_budget_tokens bigint CHECK (day_budget_tokens > 0),
    ADD COLUMN day_budget_money numeric(20, 9) CHECK (day_budget_money > 0);
COMMENT ON COLUMN brands.time_zone IS 'an IANA name; in it the days of its budget and of its usage begin';
COMMENT ON COLUMN brands.day_budget_tokens IS 'what its runs may use on a day; NULL: any number';
CREATE INDEX brands_budgeted ON brands (id) WHERE day_budget_tokens IS NOT NULL OR day_budget_money IS NOT NULL;

ALTER TABLE runs
    ADD COLUMN budget_tokens bigint CHECK (budget_tokens > 0),
    ADD COLUMN budget_money numeric(20, 9) CHECK (budget_money > 0);
ALTER TABLE stages
    ADD COLUMN budgeted boolean NOT NULL DEFAULT false,
    ADD COLUMN spent_tokens bigint NOT NULL DEFAULT 0,
    ADD COLUMN spent_money numeric(20, 9),
    ADD COLUMN spent_estimated boolean NOT NULL DEFAULT false;
COMMENT ON COLUMN stages.budgeted IS 'whether its run has a budget';
COMMENT ON COLUMN stages.spent_tokens IS 'prompt and completion tokens of all its calls; builds before this one add none';
COMMENT ON COLUMN stages.spent_money IS 'in the currency of the price table; NULL: no call of a model with a price';
COMMENT ON COLUMN stages.spent_estimated IS 'whether some of it is an estimate, since a server sent no usage';

-- Calls that have ended and are not yet part of usage_days: a transaction that ends a call only inserts, so that it
-- waits for nobody. A duty of the workers moves them. No foreign keys: what was spent outlives its run.
CREATE TABLE unsummed_calls (
    id                bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    day               date NOT NULL,
    brand_id          uuid,
    workflow          text NOT NULL,
    model             text NOT NULL,
    prompt_tokens     bigint NOT NULL,
    completion_tokens bigint NOT NULL,
    money             numeric(20, 9),
    estimated         boolean NOT NULL
);
COMMENT ON COLUMN unsummed_calls.day IS 'on which it ended, in the time zone of its brand, else in UTC';
COMMENT ON COLUMN unsummed_calls.money IS 'NULL: its model has no price';
CREATE INDEX unsummed_calls_of_brand ON unsummed_calls (brand_id, day) WHERE brand_id IS NOT NULL;

CREATE TABLE usage_days (
    day               date NOT NULL,
    brand_id          uuid,
    workflow          text NOT NULL,
    model             text NOT NULL,
    calls             bigint NOT NULL,
    estimated_calls   bigint NOT NULL,
    unpriced_calls    bigint NOT NULL,
    prompt_tokens     bigint NOT NULL,
    completion_tokens bigint NOT NULL,
    money             numeric(20, 9) NOT NULL,
    UNIQUE NULLS NOT DISTINCT (brand_id, day, workflow, model)
) WITH (fillfactor = 50);
COMMENT ON COLUMN usage_days.estimated_calls IS 'calls whose tokens are an estimate';
COMMENT ON COLUMN usage_days.unpriced_calls IS 'calls of a model without a price; money is without them';
CREATE INDEX usage_days_by_day ON usage_days (day);
