"""Language models: what a stage sends to a provider and gets back, and the providers themselves."""
