"""Clients that others' generators make of ``docs/openapi.json``, and what people do with them."""
