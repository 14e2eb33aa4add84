"""What is wrong with a deployment, as far as its database and its Redis tell: each check with the next command.

The incident checks come first: one database, Redis, loop errors, schema. Whatever is down is said and left out of the
rest, so that the doctor works in the middle of an incident.
"""

from __future__ import annotations

from collections.abc import Callable

from peewee import DatabaseError

from vm_webapp.db.pool import transaction
from vm_webapp.errors import DatabaseUnavailable
from vm_webapp.ops.doctor import fleet, queue, redis_server, server
from vm_webapp.ops.doctor.check import Check, Verdict, fail, ok, warn
from vm_webapp.ops.health import Health, HealthChecker
from vm_webapp.settings import Settings

__all__ = ["Check", "Verdict", "examine"]

MIGRATE = "python -m vm_webapp migrate"
DATABASE_CHECKS: tuple[Callable[[], Check], ...] = (
    fleet.check_loop_errors,
    fleet.check_starts,
    queue.check_pause,
    queue.check_oldest_due,
    queue.check_providers,
    fleet.check_model_outcome,
    server.check_clock,
    server.check_connections,
)


def examine(settings: Settings, redis_url: str | None) -> list[Check]:
    """Look at everything once; never fails for what it looks at.

    Args:
        settings: what the environment says.
        redis_url: where hints go, None where there is no Redis.
    """
    health = HealthChecker(settings, redis_url).check()
    up = health.dependencies["database"]["status"] == "ok"
    checks = [_database(health)]
    if up:
        checks.append(_schema(health))
    checks += redis_server.check_redis(settings, redis_url)
    checks.append(_try("one database", lambda: fleet.check_one_database(redis_url)))
    if up:
        checks.append(_workers(health))
        checks += [_try(each.__name__.removeprefix("check_").replace("_", " "), each) for each in DATABASE_CHECKS]
        checks.append(_try("versions", lambda: fleet.check_versions(settings.build)))
    return checks


def _database(health: Health) -> Check:
    facts = health.dependencies["database"]
    if facts["status"] == "ok":
        return ok("database", "it answers")
    detail = facts.get("detail", "it does not answer")
    return fail("database", detail, "check VM_DB_URL and that PostgreSQL is up: psql \"$VM_DB_URL\" -c 'select 1'")


def _schema(health: Health) -> Check:
    facts = health.dependencies["migrations"]
    said = [reason for reason in health.reasons if "migrate" in reason or "schema" in reason]
    if said:
        return fail("schema", said[0], f"{MIGRATE} status, then {MIGRATE} up")
    if facts["status"] != "ok":
        return warn("schema", facts.get("note", f"migrations are {facts['status']}"), f"{MIGRATE} status")
    return ok("schema", f"it fits this build, up to {facts.get('newest', 'its newest migration')}")


def _workers(health: Health) -> Check:
    facts = health.dependencies["worker"]
    if facts["status"] == "ok":
        return ok("workers", f"{facts['alive']} alive and taking work")
    if facts["status"] == "unknown":
        return warn("workers", "nothing is known while the schema does not fit", f"{MIGRATE} up")
    states = {worker["state"] for worker in facts.get("workers", ())}
    reason = health.reasons[0] if health.reasons else "none takes work"
    if states and states <= {"draining"}:
        return fail("workers", "every worker is draining", "wait for the deploy to end, or restart the worker service")
    return fail("workers", reason, "look at the worker's log, then restart the worker service")


def _try(name: str, check: Callable[[], Check]) -> Check:
    try:
        with transaction(durable=False):
            return check()
    except DatabaseUnavailable as error:
        return fail(name, f"the database does not answer: {error}", "check VM_DB_URL and that PostgreSQL is up")
    except DatabaseError as error:
        # A table or a column that is not there: the schema's own check says what to do.
        return warn(name, f"cannot be told: {str(error).splitlines()[0]}", f"{MIGRATE} status")
