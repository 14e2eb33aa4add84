"""What a worker does beside its stages: one duty a file, each with a ``run_once`` that the pulse calls."""
