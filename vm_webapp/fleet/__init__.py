"""The worker processes: their heartbeats in PostgreSQL, their presence in Redis, and which of them are alive."""
