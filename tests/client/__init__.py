"""The client of our own API."""
