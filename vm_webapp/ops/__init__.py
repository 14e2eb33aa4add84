"""What operators run and ask."""
