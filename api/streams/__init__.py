"""Following runs: who is told that a run has changed, and a timeline as server-sent events."""
