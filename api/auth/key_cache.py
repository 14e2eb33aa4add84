"""A cache of API key lookups, which run off the event loop and are kept for a few seconds."""

from __future__ import annotations

import hashlib
import time
from collections import OrderedDict

from api.http.threads import Threads
from vm_webapp.access.keys import could_be_key, find_name_of_key

CACHE_SECONDS = 5.0  # a revoked key may work for this much longer
MAX_CACHED = 1024


class KeyCache:
    """Finds the name of a key by its secret.

    Args:
        threads: the pool on which database queries run.
    """

    def __init__(self, threads: Threads) -> None:
        self._threads = threads
        self._known: OrderedDict[bytes, tuple[str | None, float]] = OrderedDict()

    async def name_of(self, secret: str) -> str | None:
        """Return the name of the key with this secret, None if no valid key has it.

        Raises:
            Unavailable: the database could not be queried.
        """
        if not could_be_key(secret):
            return None
        # Keyed by digest, so that neither a memory dump nor the timing of a lookup reveals a secret.
        digest = hashlib.sha256(secret.encode()).digest()
        known = self._known.get(digest)
        now = time.monotonic()
        if known is not None and known[1] > now:
            return known[0]
        name = await self._threads.run(lambda: find_name_of_key(secret))
        self._remember(digest, name, now)
        return name

    def _remember(self, digest: bytes, name: str | None, now: float) -> None:
        self._known[digest] = (name, now + CACHE_SECONDS)
        self._known.move_to_end(digest)
        while len(self._known) > MAX_CACHED:
            self._known.popitem(last=False)
