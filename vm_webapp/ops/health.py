"""Readiness: checks each dependency once, and decides whether work can progress; each reason says what to do."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from peewee import DatabaseError

from vm_webapp.db.bundle import Bundle, own_bundle
from vm_webapp.db.migrate.status import WHERE_ARCHIVED, compare, read_applied
from vm_webapp.db.pool import autocommit, disk_was_full, execute, refusal, rows, transaction
from vm_webapp.db.together import Ask, NotRead, Statement, read_together
from vm_webapp.errors import DatabaseBusy, DatabaseDiskFull, DatabaseUnavailable, VMError
from vm_webapp.fleet.installation import read_fingerprint
from vm_webapp.ops.disk_probe import find_full_disk
from vm_webapp.ops.locks import WHERE_NONE_IS_HELD, Lock, LockWatch, name_locks
from vm_webapp.ops.monitor import Monitor
from vm_webapp.ops.redis_probe import RedisProbe, RedisStatus
from vm_webapp.ops.worker_health import WHERE_ALL_IS_WELL, WorkerHealth
from vm_webapp.ops.worker_start import read_start_error, start_error_file
from vm_webapp.ops.workspace import check_workspace
from vm_webapp.runs.pauses import NO_PAUSES, Pauses, read_pauses
from vm_webapp.runs.pauses import READ as READ_PAUSES
from vm_webapp.settings import Settings

# Shorter than the time after which a verdict is stale: the reason is then the locked table and not a silent server.
LOCK_TIMEOUT = "1500ms"
SECOND_LOCK_TIMEOUT = "200ms"
WORKSPACE_EVERY_SECONDS = 5.0
DISK_REMEMBERED_SECONDS = 10.0
MOST_SKEW_SECONDS = 2.0
PRIVATE = frozenset({"workers", "detail", "locks"})
# These are read from the database, so they are unknown while it does not respond.
IN_THE_DATABASE = ("clock", "migrations", "llm", "worker")
# The tables that a check reads: it waits for none of them that is locked, for the lock is then the reason to report.
READ_FOR_MIGRATIONS = frozenset({"_yoyo_migration", "_migration_archive"})
READ_FOR_PAUSES = frozenset({"queues", "providers"})
READ_FOR_WORKERS = READ_FOR_PAUSES | {"worker_heartbeats", "stages", "installation"}
HOLDS_UP_READERS = "ACCESS EXCLUSIVE"
NAME_SESSIONS = "python -m vm_webapp doctor names the session that holds it and the statement that ends it"

READ_CLOCK = "SELECT extract(epoch FROM clock_timestamp())::float8 AS now"
_GLANCE: tuple[tuple[Statement, dict[str, Any]], ...] = (
    *WHERE_NONE_IS_HELD,
    (READ_CLOCK, {}),
    *((statement, {}) for statement in WHERE_ARCHIVED),
    (READ_PAUSES, {}),
    *((statement, {}) for statement in WHERE_ALL_IS_WELL),
)


@dataclass(frozen=True, slots=True)
class Health:
    """The readiness verdict.

    Attributes:
        dependencies: name → facts, each with a ``status``.
        reasons: why work cannot progress; after its last colon, each reason says what to do. Empty when it can.
        locks: the locks of other sessions that hold something up; those that stop work come first.
    """

    dependencies: dict[str, dict[str, Any]]
    reasons: tuple[str, ...]
    locks: tuple[Lock, ...] = ()

    @property
    def ready(self) -> bool:
        """Whether work can progress."""
        return not self.reasons

    def body(self, *, private: bool) -> dict[str, Any]:
        """Return the body of the probe; hosts, pids, sessions and driver messages are included only if ``private``."""
        shown = {
            name: {key: value for key, value in facts.items() if private or key not in PRIVATE}
            for name, facts in self.dependencies.items()
        }
        body: dict[str, Any] = {"status": "ready" if self.ready else "not_ready", "dependencies": shown}
        return body if self.ready else body | {"reasons": list(self.reasons)}


def check_timed_out() -> Health:
    """Return the verdict to report when a check does not end in time."""
    # The database is the likely cause: a check waits for Redis for at most a second.
    reason = "the database did not respond in time: check that PostgreSQL is up and can be reached"
    dependencies: dict[str, dict[str, Any]] = {"database": {"status": "down"}}
    dependencies |= {name: {"status": "unknown"} for name in (*IN_THE_DATABASE, "redis", "workspace")}
    return Health(dependencies, (reason,))


def _report_locks(locks: tuple[Lock, ...], database: dict[str, Any], reasons: list[str]) -> None:
    """Put the locks into the facts of the database; those that stop work are the one reason."""
    stopping = [lock for lock in locks if lock.stops_work]
    if stopping or database["status"] == "busy":
        reasons[:] = [_why_locked(stopping or locks)]
        database["status"] = "busy"
    else:
        database["status"] = "degraded"
    database["locks"] = [lock.facts() for lock in locks]
    if waiting := sorted({lock.hindered for lock in locks if lock.hindered}):
        database["note"] = f"{name_locks(locks)} up {', '.join(waiting)}: {NAME_SESSIONS}"


def _why_locked(locks: Iterable[Lock]) -> str:
    return f"{name_locks(locks)} work up: {NAME_SESSIONS}"


class HealthChecker:
    """Checks the dependencies of one API process.

    Args:
        settings: the settings of the process.
        redis_url: the Redis for hints (the messages that say that a stage may be due), None if there is no Redis.
        bundle: the migrations of this build.
        clock: monotonic seconds.
        wall_clock: this machine's time, in seconds since 1970.
    """

    def __init__(
        self,
        settings: Settings,
        redis_url: str | None,
        *,
        bundle: Bundle | None = None,
        clock: Callable[[], float] = time.monotonic,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        self._settings = settings
        self._bundle = bundle or own_bundle()
        self._redis = RedisProbe(redis_url) if redis_url else None
        self._redis_status: RedisStatus | None = None
        self._clock = clock
        self._wall_clock = wall_clock
        self._workers = WorkerHealth(clock, self._on_another_database, self._why_not_started)
        self._locks = LockWatch(clock)
        self._workspace: tuple[float, dict[str, Any]] | None = None
        self._monitor: Monitor[Health] | None = None

    @contextmanager
    def monitored(self) -> Iterator[None]:
        """Check once a second on a thread of its own for as long as the block lasts; ``latest`` returns the verdict."""
        self._monitor = Monitor(self.check, check_timed_out, self._clock)
        try:
            with self._monitor.running():
                yield
        finally:
            self._monitor = None

    def latest(self) -> Health | None:
        """Return the monitor's last verdict without waiting; None if no monitor runs or it has none yet."""
        return self._monitor.latest() if self._monitor else None

    def what_holds_up(self, hindering: bool) -> str:
        """Return the locks of the last verdict, such as ``a lock on the table runs holds``; empty if it has none.

        Args:
            hindering: whether a lock counts that does not stop work, for which only some requests wait.
        """
        health = self.latest()
        locks = health.locks if health else ()
        counted = [lock for lock in locks if lock.stops_work] or [lock for lock in locks if hindering]
        return name_locks(counted) if counted else ""

    def check(self) -> Health:
        """Check every dependency once."""
        reasons: list[str] = []
        dependencies: dict[str, dict[str, Any]] = {"database": {"status": "ok"}}
        locks: tuple[Lock, ...] = ()
        # Before the transaction: no thread may hold a database connection while it waits for Redis.
        self._redis_status = self._redis.probe() if self._redis else None
        if (glanced := self._glance()) is not None:
            return self._verdict(glanced, (), ())
        try:
            with transaction(durable=False):
                execute(f"SET LOCAL lock_timeout = '{LOCK_TIMEOUT}'")
                locks = self._locks.look()
                dependencies["clock"] = self._clock_facts()
                locks = self._check_tables(locks, dependencies, reasons)
        except DatabaseUnavailable as error:
            reasons[:] = [f"{error.gist}: {error.todo}"]
            status = {DatabaseBusy: "busy", DatabaseDiskFull: "full"}.get(type(error), "down")
            dependencies["database"] = {"status": status, "detail": error.driver_message}
            if isinstance(error, DatabaseBusy):
                locks = self._explain_wait(dependencies, reasons)
        except (DatabaseError, VMError) as error:
            refused = refusal(error) if isinstance(error, DatabaseError) else error
            reasons[:] = [str(refused)]
            dependencies["migrations"] = {"status": "incompatible"}
        if locks:
            _report_locks(locks, dependencies["database"], reasons)
        if dependencies["database"]["status"] in ("ok", "degraded") and (
            reasons or disk_was_full(within_seconds=DISK_REMEMBERED_SECONDS)
        ):
            self._explain_by_a_full_disk(reasons, dependencies)
        return self._verdict(dependencies, tuple(reasons), locks)

    def _verdict(
        self, dependencies: dict[str, dict[str, Any]], reasons: tuple[str, ...], locks: tuple[Lock, ...]
    ) -> Health:
        for name in IN_THE_DATABASE:
            dependencies.setdefault(name, {"status": "unknown"})
        dependencies["redis"] = self._redis_facts()
        dependencies["workspace"] = self._workspace_facts()
        return Health(dependencies, reasons, locks)

    def _glance(self) -> dict[str, dict[str, Any]] | None:
        """Check in one statement whether all is well, as it mostly is.

        Returns:
            The facts of what is in the database. None where something may be wrong: the whole check then says what.
        """
        reasons: list[str] = []
        try:
            before = self._wall_clock()
            with autocommit():
                ask = read_together(*_GLANCE, lock_timeout=SECOND_LOCK_TIMEOUT)
            after = self._wall_clock()
            if ask(READ_PAUSES) or not self._locks.glance(ask):
                return None
            dependencies = {
                "database": {"status": "ok"},
                "clock": self._compare_clocks(before, ask(READ_CLOCK)[0]["now"], after),
                "migrations": self._migrations(reasons, ask),
                "llm": self._llm(NO_PAUSES),
                "worker": self._workers.check(reasons, NO_PAUSES, ask),
            }
        except (NotRead, DatabaseError, VMError):
            return None
        if reasons or disk_was_full(within_seconds=DISK_REMEMBERED_SECONDS):
            return None
        return dependencies

    def _check_tables(
        self, locks: tuple[Lock, ...], dependencies: dict[str, dict[str, Any]], reasons: list[str]
    ) -> tuple[Lock, ...]:
        """Check what is read from tables, inside the current transaction; leave out those that are locked.

        Returns:
            The locks, with those that were found when work that is due was not claimed.
        """
        unreadable = {lock.table for lock in locks if lock.mode == HOLDS_UP_READERS}
        if not unreadable & READ_FOR_MIGRATIONS:
            dependencies["migrations"] = self._migrations(reasons)
        # With a schema that does not fit, the queries below may fail, and the schema is the reason to report.
        if reasons or unreadable & READ_FOR_PAUSES:
            return locks
        pauses = read_pauses()
        dependencies["llm"] = self._llm(pauses)
        if unreadable & READ_FOR_WORKERS:
            return locks
        late: list[str] = []
        dependencies["worker"] = self._workers.check(late, pauses)
        if late and not any(lock.holds_up_workers for lock in locks):
            locks += tuple(lock for lock in self._locks.look_at_queue() if lock not in locks)
        # A lock that holds workers up is the cause, and what they no longer do its consequence.
        if late and any(lock.holds_up_workers for lock in locks):
            dependencies["worker"] |= {"status": "unknown", "note": "a lock holds workers up"}
            reasons.append(_why_locked(lock for lock in locks if lock.holds_up_workers))
        elif late and (recovering := self._locks.why_workers_are_late()):
            reasons.append(recovering)
        else:
            reasons += late
        return locks

    def _explain_wait(self, dependencies: dict[str, dict[str, Any]], reasons: list[str]) -> tuple[Lock, ...]:
        """After a statement waited in vain, return the locks that were too young before it, and check around them."""
        locks: tuple[Lock, ...] = ()
        found: dict[str, dict[str, Any]] = {"database": {"status": "ok"}}
        why: list[str] = []
        try:
            with transaction(durable=False):
                execute(f"SET LOCAL lock_timeout = '{SECOND_LOCK_TIMEOUT}'")
                locks = self._locks.look(waited_in_vain=True)
                if not locks:
                    return ()
                locks = self._check_tables(locks, found, why)
        except (DatabaseUnavailable, DatabaseError):
            return locks
        dependencies |= found
        reasons[:] = why
        return locks

    @staticmethod
    def _explain_by_a_full_disk(reasons: list[str], dependencies: dict[str, dict[str, Any]]) -> None:
        """Report a full disk in place of its effects, such as heartbeats that cannot be written."""
        full = find_full_disk()
        if full is not None:
            reasons[:] = [f"{full.gist}: {full.todo}"]
            dependencies["database"] = {"status": "full", "detail": full.driver_message}

    def _clock_facts(self) -> dict[str, Any]:
        before = self._wall_clock()
        found = rows(READ_CLOCK)[0]
        return self._compare_clocks(before, found["now"], self._wall_clock())

    @staticmethod
    def _compare_clocks(before: float, now: float, after: float) -> dict[str, Any]:
        """Compare this machine's clock with the database's, by which leases and timelines are timed."""
        # The query read the database's clock at some moment between the two readings of ours, hence the tolerance.
        ahead = (before + after) / 2 - now
        if abs(ahead) <= MOST_SKEW_SECONDS + (after - before) / 2:
            return {"status": "ok"}
        return {
            "status": "skewed",
            "seconds_ahead": round(ahead, 1),
            "note": "the API's clock differs from the database's: logs do not fit the timelines; check time "
            "synchronisation on both machines",
        }

    def _migrations(self, reasons: list[str], ask: Ask = rows) -> dict[str, Any]:
        schema = compare(self._bundle, read_applied(ask))
        facts: dict[str, Any] = {"status": "ok", "newest": self._bundle.ids[-1]}
        if schema.pending:
            facts = {"status": "pending", "pending": list(schema.pending)}
        if schema.too_new:
            facts = {"status": "incompatible", "newer": list(schema.too_new)}
        if schema.obstacle:
            reasons.append(schema.obstacle)
        elif schema.note:
            facts["note"] = schema.note
        return facts

    def _workspace_facts(self) -> dict[str, Any]:
        # Not at every check: this one writes to the disk.
        now = self._clock()
        if self._workspace is None or now - self._workspace[0] >= WORKSPACE_EVERY_SECONDS:
            self._workspace = now, check_workspace(self._settings.workspace_root)
        return self._workspace[1]

    def _redis_facts(self) -> dict[str, Any]:
        if self._redis_status is None:
            return {"status": "none", "note": "no Redis: work is found by polling"}
        if missing := self._redis_status.missing:
            return {
                "status": "degraded",
                "note": f"Redis does not allow the user of VM_REDIS_URL {missing}: work is found by polling where hints"
                " fail; grant what docs/redis.md lists",
            }
        error = self._redis_status.error
        if error:
            return {
                "status": "degraded",
                "note": f"Redis takes no hints ({error}): work goes on at the pace of the poll interval",
            }
        return {"status": "ok"}

    def _on_another_database(self) -> bool:
        """Whether the workers that announce themselves in Redis use another database than ours."""
        databases = self._redis_status.databases if self._redis_status else frozenset()
        return bool(databases) and databases != {read_fingerprint()}

    def _why_not_started(self) -> str | None:
        """Why the worker that ``serve`` keeps cannot start; in managed mode it keeps none."""
        return None if self._settings.managed else read_start_error(start_error_file(self._settings.workspace_root))

    def _llm(self, pauses: Pauses) -> dict[str, Any]:
        for name, pause in pauses.providers.items():
            facts = {"status": "paused", "provider": name, "reason": pause.code}
            until = {"until": pause.until.isoformat()} if pause.until else {}
            return facts | until | ({"detail": pause.reason} if pause.reason else {})
        if self._settings.kimi_api_key:
            return {"status": "ok", "provider": "kimi", "model": self._settings.kimi_model}
        if self._settings.managed:
            return {"status": "not_configured", "note": "set KIMI_API_KEY: stages that need a model fail without it"}
        return {"status": "offline", "note": "no model is called: set KIMI_API_KEY"}
