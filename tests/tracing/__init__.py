"""Tests of traces: what is recorded, and how it reaches a collector."""
