"""Traces: which spans the product records, and how they reach a collector; off unless an endpoint is configured.

``spans`` is all that the rest of the product knows. Only ``otlp``, which is imported when an endpoint is configured,
imports OpenTelemetry.
"""
