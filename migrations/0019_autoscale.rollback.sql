DROP VIEW autoscale_signal;
DROP TABLE scale_calls;
DROP TABLE queue_history;
DROP TABLE autoscale_decision;
DROP TABLE duty_leases;
DROP FUNCTION zone_or_utc;
