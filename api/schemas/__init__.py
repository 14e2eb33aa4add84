"""The shapes of the contract, a file for each noun."""
