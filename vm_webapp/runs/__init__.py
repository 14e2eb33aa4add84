"""Runs and their stages: the state machine, the only code that changes it, and what can be read of it."""
