"""Tests on the real parts: PostgreSQL, Redis, processes. Only the model's server is a fake."""
