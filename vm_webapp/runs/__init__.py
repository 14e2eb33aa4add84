"""Runs and their stages: the state machine, the only code that changes a status, and the queries."""
