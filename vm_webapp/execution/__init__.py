"""Running the stages that this process has claimed: the model call, its lease, its progress and its result."""
