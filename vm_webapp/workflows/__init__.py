"""Workflows: what can be run, as YAML with one Markdown prompt per stage."""
