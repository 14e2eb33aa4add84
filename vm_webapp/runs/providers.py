"""The troubles of a model provider: what pauses it, and what opens it again. ``admission`` says what a pause means.

A provider that a person must mend (a revoked key, an empty account) stays paused until an operator resumes it. One in
trouble (overloaded, unreachable) is paused for a while, longer each time; then one attempt, the probe, may call it,
and its success opens it again. Everything here runs inside the transaction of a claim or of an attempt's end.
"""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID

from vm_webapp.db.pool import Row, execute, json, row
from vm_webapp.runs.states import Failure

OVERLOADS_BEFORE_PAUSE = 5
FIRST_PAUSE_SECONDS = 5.0
LONGEST_PAUSE_SECONDS = 60.0
BEHIND_OTHERS_SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class Effect:
    """What an attempt's failure means beyond its stage.

    Attributes:
        excused: the provider is to blame and known to be down; the stage goes back without a mark on its budget.
        delay_seconds: how long an excused stage should wait, because the provider will not be called sooner.
    """

    excused: bool
    delay_seconds: float = 0.0


def read_provider(name: str, *, lock: bool = False) -> Row:
    """Return the provider's row, inside the current transaction; it is made where there is none.

    Args:
        name: the provider.
        lock: hold the row until the transaction ends.
    """
    statement = f"""
        SELECT paused_at, paused_until, probe_token, consecutive_failures, pauses
          FROM providers WHERE name = %(name)s {"FOR UPDATE" if lock else ""}
    """
    while (found := row(statement, name=name)) is None:
        execute("INSERT INTO providers (name) VALUES (%(name)s) ON CONFLICT DO NOTHING", name=name)
    return found


def begin_probe(name: str, token: UUID) -> None:
    """Note which attempt may call a paused provider: nobody else may for as long as it holds its lease."""
    execute("UPDATE providers SET probe_token = %(token)s WHERE name = %(name)s", name=name, token=token)


def record_success(name: str) -> None:
    """Forget the provider's troubles after a call that worked, and open it if it was paused for overload."""
    execute(
        """
        UPDATE providers
           SET consecutive_failures = 0, pauses = 0,
               paused_at = NULL, paused_until = NULL, reason = NULL, probe_token = NULL
         WHERE name = %(name)s
           AND (consecutive_failures > 0 OR pauses > 0 OR paused_at IS NOT NULL)
           AND (paused_at IS NULL OR paused_until IS NOT NULL)
        """,
        name=name,
    )


def record_failure(name: str, failure: Failure, *, token: UUID) -> Effect:
    """Note a failed call, pausing the provider where that is due.

    Args:
        name: the provider.
        failure: what went wrong.
        token: the attempt's lease token.
    """
    if not (failure.pauses_provider or failure.overload):
        _give_probe_back(name, token)
        return Effect(excused=False)
    provider = read_provider(name, lock=True)
    was_probe = provider["probe_token"] == token
    if failure.pauses_provider:
        return _pause_until_resumed(name, provider, failure)
    if provider["paused_at"] is not None and not was_probe:
        return Effect(excused=True)
    if was_probe or provider["consecutive_failures"] + 1 >= OVERLOADS_BEFORE_PAUSE:
        # Whoever brought the door down comes later than others that wait: were it to blame itself, as the oldest it
        # would be every probe, and keep a healthy provider shut.
        pause = _pause_for_a_while(name, provider, failure)
        return Effect(excused=True, delay_seconds=pause + BEHIND_OTHERS_SECONDS)
    execute(
        "UPDATE providers SET consecutive_failures = consecutive_failures + 1 WHERE name = %(name)s",
        name=name,
    )
    return Effect(excused=False)


def resume(name: str) -> bool:
    """Open a paused provider; return whether it was paused."""
    return bool(
        execute(
            """
            UPDATE providers
               SET paused_at = NULL, paused_until = NULL, reason = NULL, probe_token = NULL,
                   consecutive_failures = 0, pauses = 0
             WHERE name = %(name)s AND paused_at IS NOT NULL
            """,
            name=name,
        )
    )


def _give_probe_back(name: str, token: UUID) -> None:
    execute(
        "UPDATE providers SET probe_token = NULL WHERE name = %(name)s AND probe_token = %(token)s",
        name=name,
        token=token,
    )


def _pause_until_resumed(name: str, provider: Row, failure: Failure) -> Effect:
    # Calls that were under way when the key was revoked fail alike; one stage that failed for it is enough to say so.
    if provider["paused_at"] is not None and provider["paused_until"] is None:
        return Effect(excused=True)
    execute(
        """
        UPDATE providers SET paused_at = clock_timestamp(), paused_until = NULL, probe_token = NULL,
                             reason = %(reason)s
         WHERE name = %(name)s
        """,
        name=name,
        reason=json({"code": failure.code, "message": failure.message}),
    )
    return Effect(excused=False)


def _pause_for_a_while(name: str, provider: Row, failure: Failure) -> float:
    seconds: float = max(
        min(LONGEST_PAUSE_SECONDS, FIRST_PAUSE_SECONDS * 2 ** min(provider["pauses"], 16)),
        min(failure.retry_after or 0.0, LONGEST_PAUSE_SECONDS),
    )
    execute(
        """
        UPDATE providers
           SET paused_at = coalesce(paused_at, clock_timestamp()),
               paused_until = clock_timestamp() + %(seconds)s * interval '1 second',
               pauses = pauses + 1, consecutive_failures = 0, probe_token = NULL, reason = %(reason)s
         WHERE name = %(name)s
        """,
        name=name,
        seconds=seconds,
        reason=json({"code": failure.code, "message": failure.message}),
    )
    return seconds
