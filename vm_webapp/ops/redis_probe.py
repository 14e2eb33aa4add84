"""Whether Redis takes hints, and which databases its workers use: asked on a thread, for which nobody waits long."""

from __future__ import annotations

import threading
from dataclasses import dataclass

import redis

from vm_webapp.fleet.presence import Presence
from vm_webapp.redis_client import quick_client

TIMEOUT_SECONDS = 0.3
# Two questions, with their connecting; no time-out bounds how long the resolver takes for a name.
WAIT_SECONDS = 1.0
PROBE_KEY = "vm:probe"
PROBE_EXPIRE_SECONDS = 60


@dataclass(frozen=True, slots=True)
class RedisAnswer:
    """What Redis answered.

    Attributes:
        error: why it takes no hints, None when it does.
        databases: the fingerprints of the databases that workers announce; none where nothing is known.
    """

    error: str | None
    databases: frozenset[str] = frozenset()


NO_ANSWER = RedisAnswer("no answer")


class RedisProbe:
    """Asks one Redis, one question at a time.

    Args:
        url: where it is.
    """

    def __init__(self, url: str) -> None:
        self._client = quick_client(url, TIMEOUT_SECONDS)
        self._presence = Presence(self._client)
        self._asking: threading.Thread | None = None
        self._answer = NO_ANSWER

    def ask(self) -> RedisAnswer:
        """Return what Redis answers within a second. While an earlier question hangs, no other is asked."""
        if self._asking is None or not self._asking.is_alive():
            self._answer = NO_ANSWER
            self._asking = threading.Thread(target=self._ask, name="redis-probe", daemon=True)
            self._asking.start()
            self._asking.join(WAIT_SECONDS)
        return self._answer

    def _ask(self) -> None:
        refused = None
        try:
            try:
                # A write: a replica whose primary is gone, or a full Redis, answers PING and takes no hint.
                self._client.set(PROBE_KEY, 1, ex=PROBE_EXPIRE_SECONDS)
            except redis.ResponseError as error:
                refused = type(error).__name__
            present = self._presence.present()
        except (redis.RedisError, OSError) as error:
            self._answer = RedisAnswer(type(error).__name__)
        else:
            self._answer = RedisAnswer(refused, frozenset(str(facts.get("fingerprint")) for facts in present))
