DROP TABLE usage_days;
DROP TABLE unsummed_calls;
ALTER TABLE brands DROP COLUMN day_budget_money, DROP COLUMN day_budget_tokens, DROP COLUMN time_zone;
ALTER TABLE runs DROP COLUMN budget_money, DROP COLUMN budget_tokens;
ALTER TABLE stages
    DROP COLUMN spent_estimated, DROP COLUMN spent_money, DROP COLUMN spent_tokens, DROP COLUMN budgeted;
