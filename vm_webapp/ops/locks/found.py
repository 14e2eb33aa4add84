"""Reads from PostgreSQL's lock table which sessions hold this program up."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any

from vm_webapp.db.migrate.session import ADVISORY_LOCK
from vm_webapp.db.pool import Row, rows
from vm_webapp.db.together import Ask, NotRead
from vm_webapp.ops.locks.session import Holder, Lock
from vm_webapp.ops.locks.uses import BY_STRENGTH, USES
from vm_webapp.runs.fair_order import order_of

# A shorter transaction is one like any other: it ends before anybody has to act.
OLD_SECONDS = 2
WAITED_SECONDS = 1
# An operator or a program may keep an advisory lock of its own for as long as it likes, except within a transaction.
FORGOTTEN_SECONDS = 5

_RELATIONS = """
    tables AS (
        SELECT to_regclass(quote_ident(name))::oid AS oid, name FROM unnest(%(tables)s::text[]) AS name),
    relations AS (
        SELECT oid, name FROM tables
        UNION ALL SELECT i.indexrelid, name FROM pg_index i JOIN tables ON i.indrelid = tables.oid
        UNION ALL SELECT d.objid, name FROM pg_depend d JOIN tables ON d.refobjid = tables.oid
         WHERE d.classid = 'pg_class'::regclass AND d.refclassid = 'pg_class'::regclass AND d.deptype IN ('a', 'i'))
"""
# An index and a sequence count as their table: DDL may lock one of them alone, and statements on the table need it.
# A lock that is only asked for holds up everybody who comes after it, too, until it is granted or given up.
_TABLE_LOCKS = f"""
    WITH {_RELATIONS}
    SELECT relations.name AS table_name, l.mode, l.granted, l.pid,
           CASE WHEN l.granted THEN NULL ELSE (pg_blocking_pids(l.pid))[1] END AS waits_for,
           extract(epoch FROM clock_timestamp() - CASE WHEN l.granted THEN coalesce(a.xact_start, a.query_start)
                                                       ELSE l.waitstart END)::float8 AS age
      FROM pg_locks l JOIN relations ON relations.oid = l.relation
      LEFT JOIN pg_stat_activity a ON a.pid = l.pid
     WHERE l.locktype = 'relation' AND l.mode = ANY(%(modes)s) AND l.pid <> pg_backend_pid()
       AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
     ORDER BY l.granted DESC, age DESC NULLS FIRST
"""
# One row for each session that one of ours, or one that one of ours waits for, waits for. The heavyweight lock of a
# tuple, which the first in the line holds, tells the table of a row; without one it is a table that both sides write.
# A chain ends at the sessions that are known already: they are to be ended, and not those that they wait for.
_WAITS = f"""
    WITH RECURSIVE {_RELATIONS},
    waits AS (
        SELECT w.pid, w.locktype, w.relation, w.waitstart, unnest(pg_blocking_pids(w.pid)) AS blocker
          FROM pg_locks w WHERE NOT w.granted),
    chains AS (
        SELECT waits.pid AS waiter, a.application_name AS application, waits.*
          FROM waits JOIN pg_stat_activity a ON a.pid = waits.pid
         WHERE a.datname = current_database() AND starts_with(a.application_name, 'vm-webapp ')
        UNION
        SELECT chains.waiter, chains.application, chains.pid, chains.locktype, chains.relation, chains.waitstart,
               waits.blocker
          FROM chains JOIN waits ON waits.pid = chains.blocker AND waits.pid <> ALL(%(known)s))
    SELECT chains.application, chains.locktype, chains.blocker AS pid, relations.name AS table_name,
           extract(epoch FROM clock_timestamp() - chains.waitstart)::float8 AS waited,
           extract(epoch FROM clock_timestamp() - holder.xact_start)::float8 AS age
      FROM chains
      LEFT JOIN pg_stat_activity holder ON holder.pid = chains.blocker
      LEFT JOIN relations ON relations.oid = coalesce(
           chains.relation,
           (SELECT t.relation FROM pg_locks t WHERE t.pid = chains.waiter AND t.locktype = 'tuple' LIMIT 1),
           (SELECT t.relation FROM pg_locks t JOIN pg_locks h USING (relation, locktype)
             WHERE t.pid = chains.waiter AND h.pid = chains.blocker AND t.locktype = 'relation'
               AND t.mode IN ('RowExclusiveLock', 'RowShareLock') AND h.mode IN ('RowExclusiveLock', 'RowShareLock')
               AND t.relation IN (SELECT oid FROM tables)
             ORDER BY t.relation LIMIT 1))
     WHERE chains.blocker = ANY(%(known)s) OR NOT EXISTS (SELECT 1 FROM waits WHERE waits.pid = chains.blocker)
"""
# A claim waits for no row: it skips what is locked. These are the sessions that have locked a stage at the head of the
# queue or its run. ``xmax`` of a locked row is the transaction that has locked it.
_SKIPPED = f"""
    WITH due AS (
        SELECT s.xmax AS of_stage, r.xmax AS of_run, s.available_at FROM stages s JOIN runs r ON r.id = s.run_id
         WHERE s.status = 'queued' AND s.available_at <= clock_timestamp() - %(waited)s * interval '1 s'
         ORDER BY {order_of("s")} LIMIT 100)
    SELECT 'vm-webapp worker ' AS application, l.locktype, l.pid,
           CASE WHEN bool_or(l.transactionid = due.of_run) THEN 'runs' ELSE 'stages' END AS table_name,
           CASE WHEN a.xact_start IS NULL  -- this role may not see it
                THEN extract(epoch FROM clock_timestamp() - min(due.available_at)) END::float8 AS waited,
           extract(epoch FROM clock_timestamp() - a.xact_start)::float8 AS age
      FROM due JOIN pg_locks l ON l.locktype = 'transactionid' AND l.granted
                              AND l.transactionid IN (due.of_run, due.of_stage)
      LEFT JOIN pg_stat_activity a ON a.pid = l.pid
     WHERE l.pid <> pg_backend_pid() GROUP BY l.locktype, l.pid, a.xact_start
"""
_ADVISORY = """
    SELECT l.pid, (l.classid::bigint << 32 | l.objid::bigint) = %(migration)s AS of_migrations
      FROM pg_locks l JOIN pg_stat_activity a ON a.pid = l.pid
     WHERE l.locktype = 'advisory' AND l.granted AND l.objsubid = 1
       AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
       AND clock_timestamp() - coalesce(a.xact_start, a.state_change, '-infinity')
           > %(old)s * interval '1 s'
       AND ((l.classid::bigint << 32 | l.objid::bigint) = %(migration)s
            OR (a.state LIKE 'idle in transaction%%'
                AND clock_timestamp() - a.xact_start > %(forgotten)s * interval '1 s'))
"""
# The rights are those that pg_terminate_backend asks for.
_SESSIONS = """
    SELECT a.pid, coalesce(a.usename, 'unknown') AS user, coalesce(a.application_name, '') AS application, a.state,
           coalesce(a.xact_start, a.query_start) AS since, coalesce(r.rolsuper, false) AS superuser,
           coalesce(me.rolsuper OR (NOT r.rolsuper AND (pg_has_role(r.oid, 'USAGE')
                                    OR pg_has_role('pg_signal_backend', 'USAGE'))), me.rolsuper) AS may_end,
           quote_ident(current_user) AS role
      FROM pg_stat_activity a JOIN pg_roles me ON me.rolname = current_user LEFT JOIN pg_roles r ON r.oid = a.usesysid
     WHERE a.pid = ANY(%(pids)s)
"""
_WAITING = {"api": "requests", "worker": "stages", "pulse": "workers' heartbeats", "command": "commands"}
_OF_WORKERS = ("vm-webapp worker ", "vm-webapp pulse ")


# What ``find_locks`` asks where there are no locks; ``read_together`` reads it.
WHERE_NONE_IS_HELD: tuple[tuple[str, dict[str, Any]], ...] = (
    (_TABLE_LOCKS, {"tables": list(USES), "modes": list(BY_STRENGTH)}),
    (_WAITS, {"tables": list(USES), "known": []}),
    (_ADVISORY, {"migration": ADVISORY_LOCK, "old": OLD_SECONDS, "forgotten": FORGOTTEN_SECONDS}),
)


def find_locks(*, old_seconds: float = OLD_SECONDS, ask: Ask = rows) -> list[Lock]:
    """Return the locks that hold this program up, inside the current transaction; those that stop work come first.

    Args:
        ask: runs a query; one that has read ``WHERE_NONE_IS_HELD`` raises ``NotRead`` where one may be held.
        old_seconds: only locks of transactions that have lasted so long, unless one of our sessions waits for them.

    Only PostgreSQL's own views and catalogs are read, so that no lock on a table of ours can hold this up.
    """
    on_tables = [
        found
        for found in ask(_TABLE_LOCKS, tables=list(USES), modes=list(BY_STRENGTH))
        if found["mode"] in USES[found["table_name"]].stop_work | USES[found["table_name"]].hinder
    ]
    strong = {found["pid"] for found in on_tables}
    waits = [found for found in ask(_WAITS, tables=list(USES), known=list(strong)) if _has_lasted(found, old_seconds)]
    on_tables = _pick_tables(on_tables, waited_for={found["pid"] for found in waits}, old_seconds=old_seconds)
    waits = [found for found in waits if found["pid"] not in strong]
    known = {found["pid"] for found in [*on_tables, *waits]}
    advisory = [
        found
        for found in ask(_ADVISORY, migration=ADVISORY_LOCK, old=OLD_SECONDS, forgotten=FORGOTTEN_SECONDS)
        if found["pid"] not in known
    ]
    holding = [*on_tables, *waits, *advisory]
    if holding and ask is not rows:
        raise NotRead
    holders = _read_holders(holding)
    locks = {
        (lock.what, lock.holder.pid): lock
        for lock in [
            *(_table_lock(found, holders) for found in on_tables),
            *(_row_lock(found, holders, waits) for found in waits),
            *(_advisory_lock(found, holders) for found in advisory),
        ]
        if lock is not None
    }
    return sorted(locks.values(), key=lambda lock: (not lock.stops_work, not lock.holds_up_workers))


def find_locks_on_due_stages() -> list[Lock]:
    """Return the locks for which claims skip the stages at the head of the queue, inside the current transaction."""
    found = [each for each in rows(_SKIPPED, waited=WAITED_SECONDS) if _has_lasted(each, OLD_SECONDS)]
    holders = _read_holders(found)
    return [lock for each in found if (lock := _row_lock(each, holders, found)) is not None]


def still_in_a_transaction(pids: Iterable[int]) -> frozenset[int]:
    """Return which of these sessions still have the transaction in which they wrote or locked rows."""
    sql = "SELECT DISTINCT pid FROM pg_locks WHERE locktype = 'transactionid' AND granted AND pid = ANY(%(pids)s)"
    return frozenset(found["pid"] for found in rows(sql, pids=list(pids)))


def _pick_tables(found: Iterable[Row], *, waited_for: Collection[int], old_seconds: float) -> list[Row]:
    """Return the locks that have lasted, one for each session and table: the strongest."""
    picked: dict[tuple[int, str], Row] = {}
    for each in found:
        # None is the age of a session that this role may not see.
        if each["pid"] in waited_for or each["age"] is None or each["age"] >= old_seconds:
            place = (each["pid"], each["table_name"])
            if place not in picked or _strength(each["mode"]) > _strength(picked[place]["mode"]):
                picked[place] = each
    return list(picked.values())


def _strength(mode: str) -> int:
    return BY_STRENGTH.index(mode)


def _has_lasted(found: Row, old_seconds: float) -> bool:
    return (found["waited"] or 0) >= WAITED_SECONDS or (found["age"] or 0) >= old_seconds


def _read_holders(found: Iterable[Row]) -> dict[int, Holder]:
    waits_for = {each["pid"]: each.get("waits_for") for each in found}
    if not waits_for:
        return {}
    return {
        session["pid"]: Holder(**session, waits_for=waits_for[session["pid"]])
        for session in rows(_SESSIONS, pids=list(waits_for))
    }


def _table_lock(found: Row, holders: dict[int, Holder]) -> Lock | None:
    if found["pid"] not in holders:  # it has ended since
        return None
    use, mode = USES[found["table_name"]], found["mode"]
    stops = mode in use.stop_work
    return Lock(
        what=f"a lock on the table {found['table_name']}",
        table=found["table_name"],
        mode=_in_sql(mode),
        stops_work=stops,
        holds_up_workers=stops,
        hindered="" if stops else use.hindered,
        holder=holders[found["pid"]],
    )


def _row_lock(found: Row, holders: dict[int, Holder], waits: Iterable[Row]) -> Lock | None:
    if found["pid"] not in holders:
        return None
    waiting = [each["application"] for each in waits if each["pid"] == found["pid"]]
    kind, table = found["locktype"], found["table_name"]
    return Lock(
        what=_what(kind, table),
        table="" if kind == "advisory" or not table else table,
        mode={"advisory": "advisory", "relation": "table"}.get(kind, "row"),
        stops_work=False,
        holds_up_workers=any(name.startswith(_OF_WORKERS) for name in waiting),
        hindered=_who_waits(waiting),
        holder=holders[found["pid"]],
    )


def _advisory_lock(found: Row, holders: dict[int, Holder]) -> Lock | None:
    if found["pid"] not in holders:
        return None
    of_migrations = found["of_migrations"]
    return Lock(
        what="the lock of migrations" if of_migrations else "an advisory lock in a transaction that was left open",
        table="",
        mode="advisory",
        stops_work=False,
        holds_up_workers=False,
        hindered=USES["yoyo_lock"].hindered if of_migrations else "a request whose Idempotency-Key it may stand for",
        holder=holders[found["pid"]],
    )


def _what(kind: str, table: str | None) -> str:
    if kind == "advisory":
        return "an advisory lock"
    if not table:
        return "a lock that another transaction holds"
    return f"a lock on the table {table}" if kind == "relation" else f"a lock on a row of the table {table}"


def _who_waits(applications: Iterable[str]) -> str:
    kinds = {name.removeprefix("vm-webapp ").split(" ")[0] for name in applications}
    return " and ".join(sorted(_WAITING.get(kind, kind) for kind in kinds))


def _in_sql(mode: str) -> str:
    """Return a mode as SQL spells it: ``AccessExclusiveLock`` is ACCESS EXCLUSIVE."""
    words = "".join(f" {letter}" if letter.isupper() else letter for letter in mode.removesuffix("Lock"))
    return words.strip().upper()
