"""A cache of API key lookups."""

from __future__ import annotations

from api.auth.credential_cache import CredentialCache
from vm_webapp.access.keys import KeyHolder, could_be_key, find_key


class KeyCache(CredentialCache):
    """Finds the holder of a key by its secret."""

    def _could_be(self, secret: str) -> bool:
        return could_be_key(secret)

    def _find(self, secret: str) -> KeyHolder | None:
        return find_key(secret)
