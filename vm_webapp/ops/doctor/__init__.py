"""What is wrong with a deployment, as far as its database and its Redis tell: each check with the next command.

The incident checks come first: one database, Redis, loop errors, schema. Whatever is down is said and left out of the
rest, so that the doctor works in the middle of an incident.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from peewee import DatabaseError

from vm_webapp.db.pool import execute, refusal, transaction
from vm_webapp.errors import DatabaseUnavailable
from vm_webapp.ops.doctor import fleet, queue, redis_server, server
from vm_webapp.ops.doctor.check import Check, Verdict, fail, ok, warn
from vm_webapp.ops.health import Health, HealthChecker
from vm_webapp.settings import Settings

__all__ = ["Check", "Verdict", "examine"]

LOCK_TIMEOUT = "500ms"  # several checks may wait for the same table
DATABASE_CHECKS: tuple[Callable[[], Check], ...] = (
    fleet.check_loop_errors,
    fleet.check_starts,
    queue.check_queue,
    queue.check_oldest_due,
    queue.check_provider,
    fleet.check_last_model_call,
    server.check_clock,
)


def examine(settings: Settings, redis_url: str | None) -> list[Check]:
    """Look at everything once; never fails for what it looks at.

    Args:
        settings: what the environment says.
        redis_url: where hints go, None where there is no Redis.
    """
    health = HealthChecker(settings, redis_url).check()
    up = health.dependencies["database"]["status"] != "down"
    checks = [_try(server.check_database, settings)]
    if up:
        checks.append(_schema(health))
    checks += redis_server.check_redis(settings, redis_url)
    if up:
        checks += [_try(fleet.check_one_database, redis_url), _workers(health)]
        checks += [_try(check) for check in DATABASE_CHECKS]
        checks.append(_try(server.check_connections, settings.web_concurrency))
        checks.append(_try(fleet.check_versions, settings.build))
    return checks


def _schema(health: Health) -> Check:
    facts = health.dependencies["migrations"]
    if facts["status"] == "unknown":
        return _hindered("schema", health)
    if facts["status"] == "ok":
        return ok("schema", facts.get("note", f"it fits this build, up to {facts['newest']}"))
    if "note" in facts:
        return warn("schema", *_split(facts["note"]))
    return fail("schema", *_split(health.reasons[0]))


def _workers(health: Health) -> Check:
    facts = health.dependencies["worker"]
    if facts["status"] == "unknown":
        return _hindered("workers", health)
    if facts["status"] != "ok":
        return fail("workers", *_split(health.reasons[0]))
    return ok("workers", f"{facts['alive']} alive and taking work")


def _hindered(name: str, health: Health) -> Check:
    """What readiness did not come to, for the reason that it gives."""
    said, todo = _split(health.reasons[0])
    return warn(name, f"cannot be told: {said}", todo)


def _split(reason: str) -> tuple[str, str]:
    """Return what is wrong, and what to do about it."""
    said, _, todo = reason.rpartition(": ")
    return said, todo


def _try(check: Callable[..., Check], *arguments: Any) -> Check:
    name = check.__name__.removeprefix("check_").replace("_", " ")
    try:
        with transaction(durable=False):
            execute(f"SET LOCAL lock_timeout = '{LOCK_TIMEOUT}'")
            return check(*arguments)
    except DatabaseUnavailable as error:
        return fail(name, error.driver_message, error.todo)
    except DatabaseError as error:
        said, todo = _split(str(refusal(error)))
        return warn(name, f"cannot be told: {said}", todo)
