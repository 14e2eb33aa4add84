"""OpenAI-compatible servers that people run, installed from packages, and tiny models for them."""
