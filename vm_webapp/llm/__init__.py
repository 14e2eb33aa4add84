"""Language models: what a stage asks of one, and the ones there are."""
