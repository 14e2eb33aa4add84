DROP TABLE runs_of_day;
DROP TABLE rate_windows;
