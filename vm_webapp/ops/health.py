"""Whether work can progress: the facts behind readiness, each with a reason that says what to do."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import redis

from vm_webapp.db.bundle import bundled_ids
from vm_webapp.db.pool import Row, row, rows, transaction
from vm_webapp.errors import DatabaseUnavailable
from vm_webapp.redis_client import quick_client
from vm_webapp.runs.due import find_due
from vm_webapp.runs.heartbeat import FRESH_SECONDS, read_fingerprint
from vm_webapp.runs.presence import Presence
from vm_webapp.settings import Settings

STUCK_SECONDS = 15
REDIS_TIMEOUT_SECONDS = 0.3
PROBE_KEY = "vm:probe"
PROBE_EXPIRE_SECONDS = 60
PRIVATE = frozenset({"workers", "detail"})


@dataclass(frozen=True, slots=True)
class Health:
    """A verdict.

    Attributes:
        dependencies: name → facts, each with a ``status``.
        reasons: why work cannot progress; empty when it can.
    """

    dependencies: dict[str, dict[str, Any]]
    reasons: tuple[str, ...]

    @property
    def ready(self) -> bool:
        """Whether work can progress."""
        return not self.reasons

    def body(self, *, private: bool) -> dict[str, Any]:
        """Return the answer of the readiness probe; what names machines only where ``private``."""
        told = {
            name: {key: value for key, value in facts.items() if private or key not in PRIVATE}
            for name, facts in self.dependencies.items()
        }
        body: dict[str, Any] = {"status": "ready" if self.ready else "not_ready", "dependencies": told}
        return body if self.ready else body | {"reasons": list(self.reasons)}


def unanswered() -> Health:
    """Return the verdict on a check that did not end within the time of a probe."""
    reason = "the database did not answer in time: check that PostgreSQL is up and can be reached"
    dependencies: dict[str, dict[str, Any]] = {"database": {"status": "down"}}
    dependencies |= {name: {"status": "unknown"} for name in ("worker", "migrations", "llm", "redis")}
    return Health(dependencies, (reason,))


class HealthChecker:
    """Checks the dependencies of one API process.

    Args:
        settings: what the process was started with.
        redis_url: where hints go, None where there is no Redis.
    """

    def __init__(self, settings: Settings, redis_url: str | None) -> None:
        self._settings = settings
        self._redis = quick_client(redis_url, REDIS_TIMEOUT_SECONDS) if redis_url else None

    def check(self) -> Health:
        """Look at everything once."""
        reasons: list[str] = []
        dependencies: dict[str, dict[str, Any]] = {}
        try:
            with transaction(durable=False):
                dependencies["database"] = {"status": "ok"}
                dependencies["migrations"] = _migrations(reasons)
                if reasons:
                    dependencies["worker"] = {"status": "unknown"}
                    dependencies["llm"] = {"status": "unknown"}
                else:
                    dependencies["llm"] = self._llm()
                    dependencies["worker"] = _workers(reasons, self._is_elsewhere)
        except DatabaseUnavailable as error:
            reasons[:] = ["the database does not answer: check that VM_DB_URL is right and PostgreSQL is up"]
            dependencies = {"database": {"status": "down", "detail": str(error)}}
            dependencies |= {name: {"status": "unknown"} for name in ("worker", "migrations", "llm")}
        dependencies["redis"] = self._redis_facts()
        return Health(dependencies, tuple(reasons))

    def _redis_facts(self) -> dict[str, Any]:
        if self._redis is None:
            return {"status": "none", "note": "no Redis: work is found by polling"}
        try:
            # A write: a replica whose primary is gone, or a full Redis, answers PING and takes no hint.
            self._redis.set(PROBE_KEY, 1, ex=PROBE_EXPIRE_SECONDS)
        except (redis.RedisError, OSError) as error:
            return {
                "status": "degraded",
                "note": f"Redis takes no hints ({type(error).__name__}): work goes on at the pace of the poll interval",
            }
        return {"status": "ok"}

    def _is_elsewhere(self) -> bool:
        """Whether some worker announces itself in Redis with another database than ours."""
        if self._redis is None:
            return False
        try:
            here = read_fingerprint()
            return any(facts.get("fingerprint") != here for facts in Presence(self._redis).present())
        except redis.RedisError:
            return False

    def _llm(self) -> dict[str, Any]:
        paused = rows("SELECT name, paused_until, reason FROM providers WHERE paused_at IS NOT NULL")
        if paused:
            reason = paused[0]["reason"] or {}
            return {"status": "paused", "provider": paused[0]["name"], "reason": reason.get("code")}
        if self._settings.kimi_api_key:
            return {"status": "ok", "provider": "kimi", "model": self._settings.kimi_model}
        if self._settings.managed:
            return {"status": "not_configured", "note": "set KIMI_API_KEY: stages that need a model fail without it"}
        return {"status": "offline", "note": "no model is called: set KIMI_API_KEY"}


def _migrations(reasons: list[str]) -> dict[str, Any]:
    has_table = row("SELECT to_regclass('_yoyo_migration') IS NOT NULL AS found")
    applied = rows("SELECT migration_id FROM _yoyo_migration") if has_table and has_table["found"] else []
    missing = set(bundled_ids()) - {found["migration_id"] for found in applied}
    if missing:
        reasons.append(f"the database lacks {', '.join(sorted(missing))}: run python -m vm_webapp migrate")
        return {"status": "pending", "pending": sorted(missing)}
    return {"status": "ok", "newest": bundled_ids()[-1]}


def _workers(reasons: list[str], is_elsewhere: Callable[[], bool]) -> dict[str, Any]:
    found = rows(
        """
        SELECT worker_id::text, host, pid, build, state, provider, llm_cap, slots, in_flight, last_claim_at::text,
               last_tick_at > clock_timestamp() - %(fresh)s * interval '1 second' AS fresh
          FROM worker_heartbeats WHERE state <> 'stopped'
        """,
        fresh=FRESH_SECONDS,
    )
    fresh = [worker for worker in found if worker["fresh"]]
    working = [worker for worker in fresh if worker["state"] == "working"]
    facts: dict[str, Any] = {"status": "ok", "alive": len(working), "workers": fresh}
    reason = _why_nothing_is_claimed(working) if working else _why_nobody_works(fresh, is_elsewhere)
    if reason:
        reasons.append(reason)
        facts["status"] = "down"
    return facts


def _why_nobody_works(fresh: list[Row], is_elsewhere: Callable[[], bool]) -> str:
    if fresh:
        states = ", ".join(sorted({worker["state"] for worker in fresh}))
        return f"every worker is {states}: wait for the deploy to end, or start a worker"
    if is_elsewhere():
        return "workers are alive, but on another database: give API and workers the same VM_DB_URL"
    if row("SELECT 1 AS found FROM worker_heartbeats LIMIT 1"):
        return f"no worker has been heard of for {FRESH_SECONDS} s: look at the worker's log and restart it"
    return "no worker has ever used this database: start one, with the same VM_DB_URL as the API"


def _why_nothing_is_claimed(working: list[Row]) -> str | None:
    """Work is due, somebody has room for it, nothing stands in its way, and still nobody takes it."""
    claimed = row(
        """
        SELECT max(last_claim_at) > clock_timestamp() - %(stuck)s * interval '1 second' AS lately
          FROM worker_heartbeats
        """,
        stuck=STUCK_SECONDS,
    )
    if claimed and claimed["lately"]:
        return None
    with_room = {(each["provider"], each["llm_cap"]) for each in working if each["in_flight"] < each["slots"]}
    for provider, cap in with_room:
        if find_due(provider, 1, cap=cap, waited_seconds=STUCK_SECONDS).ids:
            return f"workers are alive, yet work that is due has not been claimed for {STUCK_SECONDS} s: restart them"
    return None
