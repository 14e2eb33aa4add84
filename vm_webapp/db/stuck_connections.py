"""Breaks connections that threads have held for too long, so that a PostgreSQL process that hangs blocks none for ever.

The server enforces ``statement_timeout``, and ``tcp_user_timeout`` detects only a machine that no longer acknowledges
bytes. Neither ends the wait for a server process that is frozen on a machine that still runs.
"""

from __future__ import annotations

import logging
import threading
import time
from weakref import WeakKeyDictionary

from vm_webapp.db.connections import Pool
from vm_webapp.loops import Loop

log = logging.getLogger(__name__)

CHECK_SECONDS = 1.0

# Weak, so that the pool of a thread that has ended can be freed.
_limits: WeakKeyDictionary[Pool, float] = WeakKeyDictionary()
_lock = threading.Lock()


def limit_checkouts(pool: Pool, *, seconds: float) -> None:
    """From now on, break each of a pool's connections that a thread has held for longer than this."""
    with _lock:
        _limits[pool] = seconds
        _loop.start()


def break_stuck_connections() -> None:
    """Break the connections that threads have held for longer than the limits of their pools."""
    with _lock:
        limited = list(_limits.items())
    for pool, seconds in limited:
        # Wall-clock time, because that is what Peewee's pool records when it hands out a connection.
        broken = pool.break_taken(before=time.time() - seconds)
        if broken:
            log.error("database.hangs", extra={"connections": broken, "seconds": seconds})


_loop = Loop("stuck-connections", break_stuck_connections, every_seconds=CHECK_SECONDS)
