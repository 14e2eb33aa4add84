"""A cache of API key lookups, which run off the event loop and are kept for a few seconds."""

from __future__ import annotations

import hashlib
import time
from collections import OrderedDict

from api.http.threads import Threads
from vm_webapp.access.actor import Actor
from vm_webapp.access.keys import could_be_key, find_key

# A revoked key works for this much longer, and for the time that a lookup takes: together less than five seconds.
CACHE_SECONDS = 4.0
MAX_CACHED = 1024


class KeyCache:
    """Finds the holder of a key by its secret.

    Args:
        threads: the pool on which database queries run.
    """

    def __init__(self, threads: Threads) -> None:
        self._threads = threads
        self._known: OrderedDict[bytes, tuple[Actor | None, float]] = OrderedDict()

    async def actor_with(self, secret: str) -> Actor | None:
        """Return who holds the key with this secret, None if no valid key has it.

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
        holder = await self._threads.run(lambda: find_key(secret))
        left = holder.seconds_left if holder is not None else None
        until = now + (CACHE_SECONDS if left is None else min(CACHE_SECONDS, left))
        actor = holder.actor if holder is not None else None
        self._remember(digest, actor, until)
        return actor

    def has_known(self, secret: str) -> bool:
        """Return whether this was a valid key when it was looked up last, and that has not been forgotten."""
        known = self._known.get(hashlib.sha256(secret.encode(errors="surrogateescape")).digest())
        return known is not None and known[0] is not None

    def _remember(self, digest: bytes, actor: Actor | None, until: float) -> None:
        self._known[digest] = (actor, until)
        self._known.move_to_end(digest)
        while len(self._known) > MAX_CACHED:
            self._known.popitem(last=False)
