"""Following runs: waits for a change of status, and timelines as server-sent events."""
