"""What model calls have used: tokens and money, by day, brand, workflow and model."""
