"""Helpers that several test folders share: processes, waiting, and queries."""
