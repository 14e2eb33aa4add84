"""Workflows: the ordered stages of a run, as YAML with one Markdown prompt per stage."""
