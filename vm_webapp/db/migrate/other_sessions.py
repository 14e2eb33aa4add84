"""Other sessions of the database, as an operator needs them: who, what, since when, and how to end them."""

from __future__ import annotations

from typing import Any

from vm_webapp.db.migrate.session import ADVISORY_LOCK, OWN_SESSIONS, YOYO_SESSION, query
from vm_webapp.db.pool import Row
from vm_webapp.text import single_line

_FACTS = """
       a.pid, a.usename AS "user", a.application_name AS application, a.state, left(a.query, 80) AS query,
       to_char(a.xact_start AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS') AS since
"""
# The session that waits for nobody comes first: one that waits is in the way only because of another.
_BLOCKING = f"""
WITH RECURSIVE waiting(blocking, distance) AS (
    SELECT unnest(pg_blocking_pids(%(pid)s)), 1
    UNION SELECT unnest(pg_blocking_pids(blocking)), distance + 1 FROM waiting WHERE distance < 10)
SELECT w.blocking, {_FACTS}
  FROM waiting w LEFT JOIN pg_stat_activity a ON a.pid = w.blocking
 ORDER BY cardinality(pg_blocking_pids(w.blocking)) > 0, w.distance, a.xact_start LIMIT 1
"""
_LOCK_OWNER = f"""
SELECT {_FACTS}
  FROM pg_locks l JOIN pg_stat_activity a USING (pid)
 WHERE l.locktype = 'advisory' AND l.granted AND a.datname = current_database() AND l.objsubid = 1
   AND (l.classid::bigint << 32) + l.objid::bigint = %(lock)s
"""
# Either yoyo itself (it quotes the names of its tables, which people and this program do not), or whoever carries out a
# migration for it on a second connection, perhaps for a client that was killed: PostgreSQL notices that only when it
# sends the result. Such a session executes a statement of a migration's files, with its semicolon, which few other
# clients send (PostgreSQL shows the first 1,023 bytes). Or it has changed something, or has or awaits a lock that more
# than a reader needs, for longer than requests usually take. Our own APIs, workers and commands do that all the time
# and are none. A session of another role hides everything but its locks.
_AT_WORK = f"""
SELECT {_FACTS}
  FROM pg_stat_activity a
 WHERE a.datname = current_database() AND a.pid <> pg_backend_pid() AND a.usesysid IS NOT NULL
   AND coalesce(a.backend_type, 'client backend') = 'client backend'
   AND CASE WHEN a.application_name = %(yoyo)s THEN true
            WHEN starts_with(a.application_name, %(own)s) THEN false
            WHEN a.query ~ '"_?yoyo_' THEN true
            WHEN a.state = 'idle' THEN false
            WHEN a.state = 'active' AND (right(a.query, 1) = ';' OR length(a.query) > 1000)
                 AND position(a.query IN %(known)s) > 0 THEN true
            WHEN a.xact_start > clock_timestamp() - %(settled)s * interval '1 second' THEN false
            ELSE a.backend_xid IS NOT NULL
                 OR EXISTS (SELECT FROM pg_locks l WHERE l.pid = a.pid AND l.locktype = 'relation'
                               AND l.mode NOT IN ('AccessShareLock', 'RowShareLock'))
       END
 ORDER BY a.state IS NOT DISTINCT FROM 'idle', a.backend_start LIMIT 1
"""


def blocking(session: Any, pid: int) -> str:
    """Return the session for whose lock or transaction another one waits; empty if it waits for none."""
    found = query(session, _BLOCKING, pid=pid)
    if found and found[0]["blocking"] == 0:
        return "a prepared transaction; SELECT gid FROM pg_prepared_xacts, then ROLLBACK PREPARED 'gid' ends it"
    return _described({**found[0], "pid": found[0]["blocking"]}) if found else ""


def owner_of_advisory_lock(session: Any) -> str:
    """Return the session that has the advisory lock of migrations; empty if there is none."""
    found = query(session, _LOCK_OWNER, lock=ADVISORY_LOCK)
    return _described(found[0]) if found else ""


def at_work(session: Any, known: str, *, settled_seconds: float) -> str:
    """Return a session that may be carrying out a migration without our advisory lock; empty if there is none.

    Args:
        session: a direct session that has the advisory lock.
        known: the SQL of all migrations that could be the one.
        settled_seconds: age from which another transaction that changes something may be one.
    """
    found = query(session, _AT_WORK, yoyo=YOYO_SESSION, own=OWN_SESSIONS, known=known, settled=settled_seconds)
    return _described(found[0]) if found else ""


def _described(found: Row) -> str:
    who = " ".join(f"{name} {found[name]}" for name in ("user", "application") if found[name])
    what = f', "{single_line(found["query"])}"' if found["query"] and found["state"] != "idle" else ""
    state = f" ({found['state']})" if found["state"] and found["state"] != "active" else ""
    since = f", since {found['since']} UTC" if found["since"] else ""
    end = f"SELECT pg_terminate_backend({found['pid']}) ends it"
    return f"pid {found['pid']}{' of ' + who if who else ''}{what}{state}{since}; {end}"
