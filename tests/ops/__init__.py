"""Readiness, doctor, smoke test, queue control, bulk commands and retention."""
