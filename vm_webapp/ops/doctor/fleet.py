"""Checks the workers: one database, one build, no restart loop, no errors of the maintenance loop or the model."""

from __future__ import annotations

from typing import Any

import redis
from peewee import SQL, NodeList, fn

from vm_webapp.db.compiled import COUNT, MINUTE, NOW, compiled
from vm_webapp.db.models import WorkerHeartbeat
from vm_webapp.db.pool import row, rows
from vm_webapp.db.sessions import read_builds
from vm_webapp.fleet.alive import ALIVE
from vm_webapp.fleet.installation import read_fingerprint
from vm_webapp.fleet.presence import Presence
from vm_webapp.ops.doctor.check import Check, fail, ok, warn
from vm_webapp.redis_client import quick_client
from vm_webapp.text import plural

RECENT_MINUTES = 10
REDIS_TIMEOUT_SECONDS = 1.0
MOST_NAMED = 5
STARTS_PER_WORKER = 3  # within ten minutes; two deploys in a row stay below it

_W = WorkerHeartbeat
_RECENTLY = NOW - RECENT_MINUTES * MINUTE
_LOOP_ERRORS = compiled(
    _W.select(
        _W.host,
        _W.pid,
        _W.last_error["error"].alias("error"),
        _W.counters["loop_errors"].cast("int").alias("times"),
    )
    .where(_W.last_error["at"].cast("timestamptz") > _RECENTLY)
    .order_by(_W.last_error["at"].desc())
)
_BUILDS_ALIVE = compiled(_W.select(_W.build).where(ALIVE).distinct())
# Per host, because the starts on one host are few beside a large fleet, and for all hosts together, because a restart
# loop may spread over hosts. The host with the most starts comes first, the total last.
_STARTS = compiled(
    _W.select(
        fn.coalesce(_W.host, "all hosts").alias("place"),
        COUNT.filter(ALIVE).alias("alive"),
        COUNT.filter(_W.started_at > _RECENTLY).alias("starts"),
    )
    .group_by(NodeList((SQL("GROUPING SETS ((), ("), _W.host, SQL("))"))))
    .order_by(fn.grouping(_W.host), SQL("starts DESC"), _W.host)
)
_LAST_OUTCOME = compiled(
    _W.select(_W.last_model_outcome.alias("outcome"))
    .where(_W.last_model_outcome.is_null(False))
    .order_by(_W.last_model_outcome["at"].desc())
    .limit(1)
)


def check_one_database(redis_url: str | None) -> Check:
    """Check whether the workers that announce themselves in Redis use this database."""
    name = "one database"
    if redis_url is None:
        return ok(name, "cannot be compared without Redis; readiness says whether workers write to this one")
    try:
        present = Presence(quick_client(redis_url, REDIS_TIMEOUT_SECONDS)).present()
    except (redis.RedisError, OSError):
        return warn(name, "cannot be compared: Redis does not respond", "bring Redis back, then run this again")
    here = read_fingerprint()
    elsewhere = [facts for facts in present if facts.get("fingerprint") != here]
    if elsewhere:
        return fail(
            name,
            f"{len(elsewhere)} of {len(present)} workers use another database than this one: {_name(elsewhere)}",
            "give API and workers the same VM_DB_URL, then restart them",
        )
    return ok(name, f"{plural(len(present), 'worker')} in Redis, none on another database")


def _name(workers: list[dict[str, Any]]) -> str:
    """Return where workers run that announce themselves in Redis; those of an older build do not say it."""
    places = sorted(
        f"{facts['host']} pid {facts['pid']}" if "host" in facts else f"one of build {facts.get('build', 'unknown')}"
        for facts in workers
    )
    more = [f"and {len(places) - MOST_NAMED} more"] if len(places) > MOST_NAMED else []
    return ", ".join([*places[:MOST_NAMED], *more])


def check_loop_errors() -> Check:
    """Check whether the pulse (the worker's maintenance loop) of a worker has failed lately."""
    found = rows(_LOOP_ERRORS)
    if not found:
        return ok("loop errors", f"none within {RECENT_MINUTES} minutes")
    first = found[0]
    return warn(
        "loop errors",
        f"{plural(len(found), 'worker')}, {first['host']} pid {first['pid']}"
        f" {plural(first['times'] or 1, 'time')}: {first['error']}",
        "search the worker's log for worker.loop_error",
    )


def check_versions(build: str) -> Check:
    """Check whether all live APIs and workers run the same build, whichever build this command is."""
    apis, workers = read_builds("api"), sorted(found["build"] for found in rows(_BUILDS_ALIVE))
    builds = {*apis, *workers}
    if len(builds) > 1:
        return warn(
            "versions",
            f"APIs run {', '.join(apis) or 'nothing'}, workers {', '.join(workers) or 'nothing'}",
            "let the deploy end; if it has, deploy the service that stayed behind",
        )
    other = "" if builds <= {build} else f"; this command is {build}"
    return ok("versions", f"everything alive is {builds.pop()}{other}" if builds else "nothing is alive")


def check_starts() -> Check:
    """Check whether workers restart in a loop, on one host or on all hosts together."""
    found = rows(_STARTS)
    often = [each for each in found if each["starts"] > STARTS_PER_WORKER * max(1, each["alive"])]
    shown = (often or found[-1:])[0]
    detail = f"{shown['starts']} within {RECENT_MINUTES} minutes on {shown['place']}, {shown['alive']} alive now"
    if often:
        return warn("starts", detail, "check the end of that worker's log: why does it exit?")
    return ok("starts", detail)


def check_last_model_call() -> Check:
    """Check how the last model call ended."""
    last = row(_LAST_OUTCOME)
    if last is None:
        return ok("last model call", "none within 24 hours")
    outcome = last["outcome"]
    if outcome.get("code") == "ok":
        return ok("last model call", f"worked, at {outcome.get('at')}")
    return warn(
        "last model call",
        f"{outcome.get('code')}: {outcome.get('message')}, at {outcome.get('at')}",
        "python -m vm_webapp smoke --with-model --base-url URL",
    )
