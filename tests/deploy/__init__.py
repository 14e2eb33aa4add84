"""What is shipped to operate the product: the blueprint, the rollout gate and the runbook."""
