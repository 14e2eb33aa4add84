"""How many workers there should be: decided from the queue's figures, stored, and passed to whoever scales."""
