"""A cache of who presented which secret; lookups run off the event loop and are kept for a few seconds."""

from __future__ import annotations

import hashlib
import threading
import time
from abc import ABC, abstractmethod
from collections import OrderedDict
from typing import Protocol

from api.http.threads import Threads
from vm_webapp.access.actor import Actor

# What was revoked or ended works for this much longer, and for the time that a lookup takes: together less than five
# seconds.
CACHE_SECONDS = 4.0
MAX_CACHED = 1024


class Holder(Protocol):
    """Who presented a valid secret."""

    @property
    def actor(self) -> Actor:
        """The holder as the actor of changes."""

    @property
    def seconds_left(self) -> float | None:
        """How long the secret is valid if nobody revokes it; None if nothing else ends it."""


class CredentialCache(ABC):
    """Finds the holder of a secret of one kind.

    Args:
        threads: the pool on which database queries run.
    """

    def __init__(self, threads: Threads) -> None:
        self._threads = threads
        self._known: OrderedDict[bytes, tuple[Actor | None, float]] = OrderedDict()
        self._forgotten = 0
        self._lock = threading.Lock()

    async def actor_with(self, secret: str) -> Actor | None:
        """Return who holds this secret, None if it is not valid.

        Raises:
            Unavailable: the database could not be queried.
        """
        if not self._could_be(secret):
            return None
        # Keyed by digest, so that neither a memory dump nor the timing of a lookup reveals a secret.
        digest = hashlib.sha256(secret.encode()).digest()
        known = self._known.get(digest)
        now = time.monotonic()
        if known is not None and known[1] > now:
            return known[0]
        forgotten = self._forgotten
        holder = await self._threads.run(lambda: self._find(secret))
        actor = holder.actor if holder is not None else None
        left = holder.seconds_left if holder is not None else None
        until = now + (CACHE_SECONDS if left is None else min(CACHE_SECONDS, left))
        with self._lock:
            if forgotten == self._forgotten:  # otherwise what was found may have ended meanwhile
                self._remember(digest, actor, until)
        return actor

    def has_known(self, secret: str) -> bool:
        """Return whether this secret was valid when it was looked up last, and that has not been forgotten."""
        known = self._known.get(hashlib.sha256(secret.encode(errors="surrogateescape")).digest())
        return known is not None and known[0] is not None

    def forget_all(self) -> None:
        """Look every secret up again, because something has been ended; any thread may call this."""
        with self._lock:
            self._forgotten += 1
            self._known.clear()

    @abstractmethod
    def _could_be(self, secret: str) -> bool:
        """Return whether a text has the form of a secret of this kind; any other is refused without a query."""

    @abstractmethod
    def _find(self, secret: str) -> Holder | None:
        """Return the holder from the database."""

    def _remember(self, digest: bytes, actor: Actor | None, until: float) -> None:
        self._known[digest] = (actor, until)
        self._known.move_to_end(digest)
        while len(self._known) > MAX_CACHED:
            self._known.popitem(last=False)
