"""Finds what is wrong with a deployment by checking its database and its Redis; each finding names the next command.

The doctor works in the middle of an incident: it reports that the database is down, or that a table is locked, and runs
every check that does not need it. The checks of the runbook's incident list come first.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from peewee import DatabaseError

from vm_webapp.db.pool import examine_session, execute, refusal, transaction
from vm_webapp.errors import DatabaseBusy, DatabaseUnavailable
from vm_webapp.ops.disk_probe import find_full_disk
from vm_webapp.ops.doctor import audit, fleet, indexes, locks, pooler, queue, redis_server, server, workspace
from vm_webapp.ops.doctor.check import Check, Verdict, fail, ok, warn
from vm_webapp.ops.health import Health, HealthChecker
from vm_webapp.settings import Settings

__all__ = ["Check", "Verdict", "examine"]

LOCK_TIMEOUT = "500ms"  # short, because several checks one after the other may wait for the same locked table
BETWEEN_LOOKS_SECONDS = 0.3
DATABASE_CHECKS: tuple[Callable[[], Check], ...] = (
    fleet.check_loop_errors,
    fleet.check_starts,
    queue.check_queue,
    queue.check_oldest_due,
    queue.check_provider,
    queue.check_time_zones,
    fleet.check_last_model_call,
    server.check_clock,
    indexes.check_indexes,
    audit.check_audit,
    workspace.check_worker_workspace,
)


def examine(settings: Settings, redis_url: str | None) -> list[Check]:
    """Run every check once; a fault in what is checked never raises.

    Args:
        settings: the settings from the environment.
        redis_url: the Redis for hints (the messages that say that a stage may be due), None if there is no Redis.
    """
    # The same code as readiness, so that the two cannot disagree about the schema and the workers.
    checker = HealthChecker(settings, redis_url)
    health = checker.check()
    checks = _examine(settings, redis_url, health)
    if not health.ready and not health.locks:
        # A session of ours that waits for a row gives up now and then, and comes back within half a second.
        time.sleep(BETWEEN_LOOKS_SECONDS)
        again = checker.check()
        return _examine(settings, redis_url, again) if again.locks else checks
    return checks


def _examine(settings: Settings, redis_url: str | None, health: Health) -> list[Check]:
    # ``busy``, which a locked table causes, counts as up: most checks read other tables.
    up = health.dependencies["database"]["status"] != "down"
    checks = [_database(settings)]
    if up:
        checks += [locks.judge_locks(health.locks), _schema(health)]
    checks += redis_server.check_redis(settings, redis_url)
    if up:
        checks += [_try(fleet.check_one_database, redis_url), _workers(health)]
        checks += [_try(check) for check in DATABASE_CHECKS]
        checks.append(_try(server.check_connections, settings))
        checks += _session_checks(settings)
        checks.append(_try(fleet.check_versions, settings.build))
        checks.append(workspace.judge_own_workspace(health.dependencies["workspace"]))
    return [locks.point_to_locks(check) for check in checks] if health.locks else checks


def _session_checks(settings: Settings) -> list[Check]:
    # Outside of ``_try``, whose transaction has a lock time-out of its own.
    try:
        facts = examine_session()
    except DatabaseUnavailable as error:
        return [fail("pooler", error.driver_message, error.todo)]
    except DatabaseError as error:
        return [warn("pooler", *_split(str(refusal(error))))]
    return [
        pooler.judge_time_outs(facts),
        pooler.judge_pooler(facts.mode, direct=settings.db_direct_url),
        *([_try(pooler.check_direct_address, settings.db_direct_url)] if settings.db_direct_url else []),
    ]


def _database(settings: Settings) -> Check:
    check = _try(server.check_database, settings)
    # Not within that check: a failed statement ends the transaction in which every check runs.
    full = find_full_disk() if check.verdict == "ok" else None
    return fail("database", f"it responds, but its disk is full: {full.driver_message}", full.todo) if full else check


def _schema(health: Health) -> Check:
    facts = health.dependencies["migrations"]
    if facts["status"] == "unknown":
        return _not_checked("schema", health)
    if facts["status"] == "ok":
        return ok("schema", facts.get("note", f"it fits this build, up to {facts['newest']}"))
    if "note" in facts:
        return warn("schema", *_split(facts["note"]))
    return fail("schema", *_split(health.reasons[0]))


def _workers(health: Health) -> Check:
    facts = health.dependencies["worker"]
    if facts["status"] == "unknown":
        return _not_checked("workers", health)
    if facts["status"] != "ok":
        return fail("workers", *_split(health.reasons[0]))
    if "not_started" in facts:
        said, todo = _split(facts["not_started"])
        return warn("workers", f"{facts['alive']} alive and taking work, but {said}", todo)
    return ok("workers", f"{facts['alive']} alive and taking work")


def _not_checked(name: str, health: Health) -> Check:
    """Return the check of something that readiness could not check, with the reason that readiness gives."""
    # A lock that does not stop work leaves readiness without a reason, and may be on a table that is read for a check.
    problem, todo = _split((*health.reasons, health.dependencies["database"].get("note", ": "))[0])
    return warn(name, f"{locks.NOT_CHECKED}: {problem}", todo)


def _split(reason: str) -> tuple[str, str]:
    """Return what is wrong, and what to do about it."""
    # The last colon: what is wrong may quote a message of PostgreSQL that contains others.
    problem, _, todo = reason.rpartition(": ")
    return problem, todo


def _try(check: Callable[..., Check], *arguments: Any) -> Check:
    name = check.__name__.removeprefix("check_").replace("_", " ")
    try:
        # A transaction for each check: after an error PostgreSQL refuses every further statement of the same one.
        with transaction(durable=False):
            execute(f"SET LOCAL lock_timeout = '{LOCK_TIMEOUT}'")
            return check(*arguments)
    except DatabaseBusy as error:
        return warn(name, f"{locks.NOT_CHECKED}: {error.driver_message}", error.todo)
    except DatabaseUnavailable as error:
        return fail(name, error.driver_message, error.todo)
    except DatabaseError as error:
        problem, todo = _split(str(refusal(error)))
        return warn(name, f"{locks.NOT_CHECKED}: {problem}", todo)
