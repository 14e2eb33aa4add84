"""Checks whether Redis takes hints (the messages that say that a stage may be due) and which databases workers use.

The probe runs on a thread of its own, so that a check waits for it for at most a second.
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass

import redis

from vm_webapp.fleet.presence import Presence
from vm_webapp.ops.redis_permissions import KEYS, find_missing_permission
from vm_webapp.redis_client import quick_client

PERMISSIONS_EVERY_SECONDS = 30.0
PRESENCE_EVERY_SECONDS = 3.0
TIMEOUT_SECONDS = 0.3
# Bounds the whole probe: the client's time-out does not cover how long a name takes to resolve.
WAIT_SECONDS = 1.0
PROBE_KEY = "vm:probe"
PROBE_EXPIRE_SECONDS = 60


@dataclass(frozen=True, slots=True)
class RedisStatus:
    """The result of a probe.

    Attributes:
        error: why Redis takes no hints, None if it does.
        databases: fingerprints of the databases that workers announce; empty if Redis could not be read.
        missing: what the user of the URL is not allowed, None if nothing is missing or it could not be checked.
    """

    error: str | None
    databases: frozenset[str] = frozenset()
    missing: str | None = None


NO_RESPONSE = RedisStatus("no response")


class RedisProbe:
    """Probes one Redis, with one thread at a time.

    Args:
        url: its URL.
    """

    def __init__(self, url: str) -> None:
        self._client = quick_client(url, TIMEOUT_SECONDS)
        self._presence = Presence(self._client)
        self._turn = threading.Lock()
        self._thread: threading.Thread | None = None
        self._status = NO_RESPONSE
        self._missing: str | None = None
        self._permissions_checked_at = -PERMISSIONS_EVERY_SECONDS
        self._databases: frozenset[str] = frozenset()
        self._presence_read_at = -PRESENCE_EVERY_SECONDS

    def probe(self) -> RedisStatus:
        """Probe Redis for at most a second. While an earlier probe still hangs, return at once without starting one."""
        # Two checks may run at once: a request's, and the first one of the monitor.
        with self._turn:
            if self._thread is None or not self._thread.is_alive():
                self._status = NO_RESPONSE
                self._thread = threading.Thread(target=self._probe, name="redis-probe", daemon=True)
                self._thread.start()
                self._thread.join(WAIT_SECONDS)
            return self._status

    def _probe(self) -> None:
        refused = None
        try:
            try:
                # A write, because a read-only replica or a full Redis responds to PING and still takes no hint.
                self._client.set(PROBE_KEY, 1, ex=PROBE_EXPIRE_SECONDS)
            except redis.ResponseError as error:
                refused = type(error).__name__
            self._check_permissions()
            # Also after a refused write: a full Redis can still be read.
            self._read_presence()
        except redis.exceptions.NoPermissionError:
            self._status = RedisStatus(refused, missing=self._missing or f"to read the keys {KEYS}")
        except (redis.RedisError, OSError) as error:
            self._status = RedisStatus(type(error).__name__)
        else:
            self._status = RedisStatus(refused, self._databases, self._missing)

    def _read_presence(self) -> None:
        now = time.monotonic()
        if now - self._presence_read_at >= PRESENCE_EVERY_SECONDS:
            self._databases = frozenset(str(facts.get("fingerprint")) for facts in self._presence.present())
            self._presence_read_at = now

    def _check_permissions(self) -> None:
        # Seldom, because they change seldom; again each time while one is missing, so that it shows when it is granted.
        now = time.monotonic()
        if self._missing is not None or now - self._permissions_checked_at >= PERMISSIONS_EVERY_SECONDS:
            self._missing = find_missing_permission(self._client)
            self._permissions_checked_at = now
