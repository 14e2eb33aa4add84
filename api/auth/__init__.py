"""Authentication: bearer tokens and API keys, and the checks that protect an API that requires neither."""

from api.auth.hosts import is_loopback

__all__ = ["is_loopback"]
