"""API keys as requests show them: looked up off the event loop, and remembered for a few seconds."""

from __future__ import annotations

import hashlib
import time
from collections import OrderedDict

from api.http.threads import Threads
from vm_webapp.access.keys import could_be_key, find_name_of_key

REMEMBER_SECONDS = 5.0  # how long a revoked key may still be taken
MOST_REMEMBERED = 1024


class KeyRing:
    """Which keys open the door.

    Args:
        threads: where the database is asked.
    """

    def __init__(self, threads: Threads) -> None:
        self._threads = threads
        self._known: OrderedDict[bytes, tuple[str | None, float]] = OrderedDict()

    async def holder(self, secret: str) -> str | None:
        """Return the name of the key with this secret, None where it opens nothing.

        Raises:
            Unavailable: nothing is known.
        """
        if not could_be_key(secret):
            return None
        # By digest: what is found in memory, or how long a look took, tells nothing about a secret.
        digest = hashlib.sha256(secret.encode()).digest()
        known = self._known.get(digest)
        now = time.monotonic()
        if known is not None and known[1] > now:
            return known[0]
        name = await self._threads.run(lambda: find_name_of_key(secret))
        self._remember(digest, name, now)
        return name

    def _remember(self, digest: bytes, name: str | None, now: float) -> None:
        self._known[digest] = (name, now + REMEMBER_SECONDS)
        self._known.move_to_end(digest)
        while len(self._known) > MOST_REMEMBERED:
            self._known.popitem(last=False)
