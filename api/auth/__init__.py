"""Who may call: bearer tokens and keys, and this machine's own pages where the door is open."""

from api.auth.hosts import is_loopback

__all__ = ["is_loopback"]
