"""Running the stages that this process has claimed: the call of the model, its lease, and what is seen of both."""
