"""The failures of a model provider: what pauses it, and what resumes it. ``admission`` decides what a pause holds back.

A provider that needs a person (a revoked key, an empty account) stays paused until an operator resumes it. One that is
overloaded or unreachable is paused for a while, longer each time; then one attempt, the probe, may call it, and its
success resumes the provider. Everything here runs inside the transaction that claims a stage or ends an attempt.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from uuid import UUID

from peewee import Field, fn
from psycopg2.extras import Json

from vm_webapp.db.compiled import NOW, SECOND, compiled, param
from vm_webapp.db.models import Provider
from vm_webapp.db.pool import Row, execute, jsonb, row
from vm_webapp.runs.states import Failure

OVERLOADS_BEFORE_PAUSE = 5
FIRST_PAUSE_SECONDS = 5.0
LONGEST_PAUSE_SECONDS = 60.0
BEHIND_OTHERS_SECONDS = 2.0
PAUSED_BY_HAND = "paused_by_operator"


@dataclass(frozen=True, slots=True)
class Effect:
    """What the state of the provider means for an attempt that failed.

    Attributes:
        excused: the provider is known to be down; the stage is queued again and its retry budget is not touched.
        delay_seconds: how long an excused stage should wait, because the provider will not be called sooner.
    """

    excused: bool
    delay_seconds: float = 0.0


_NOT_PAUSED: dict[Field, Any] = {
    Provider.paused_at: None,
    Provider.paused_until: None,
    Provider.reason: None,
    Provider.probe_token: None,
}
_HEALTHY = {**_NOT_PAUSED, Provider.consecutive_failures: 0, Provider.pauses: 0}
_THIS = Provider.name == param("name")

_READ = Provider.select(
    Provider.paused_at, Provider.paused_until, Provider.probe_token, Provider.consecutive_failures, Provider.pauses
).where(_THIS)
_READ_UNLOCKED = compiled(_READ)
# FOR UPDATE, unlike for runs: no foreign key refers to a provider, so there is no check that would wait for it.
_READ_LOCKED = compiled(_READ.for_update())
_ADD = compiled(Provider.insert({Provider.name: param("name")}).on_conflict_ignore())
_BEGIN_PROBE = compiled(Provider.update({Provider.probe_token: param("token")}).where(_THIS))
# Only the probe's own token: an attempt that began before the pause must not end the probe of another.
_END_PROBE = compiled(
    Provider.update({Provider.probe_token: None}).where(_THIS, Provider.probe_token == param("token"))
)
_COUNT_FAILURE = compiled(
    Provider.update({Provider.consecutive_failures: Provider.consecutive_failures + 1}).where(_THIS)
)
# Nothing is written where there is nothing to reset: otherwise every successful call of a healthy provider would lock
# its one row, and all workers would finish their stages one after the other. A pause that only an operator ends is not
# touched, because a call that began before it may still succeed.
_RECORD_SUCCESS = compiled(
    Provider.update(_HEALTHY).where(
        _THIS,
        (Provider.consecutive_failures > 0) | (Provider.pauses > 0) | Provider.paused_at.is_null(False),
        Provider.paused_at.is_null() | Provider.paused_until.is_null(False),
    )
)
_RESUME = compiled(Provider.update(_HEALTHY).where(_THIS, Provider.paused_at.is_null(False)))
_PAUSE_UNTIL_RESUMED = compiled(
    Provider.update({**_NOT_PAUSED, Provider.paused_at: NOW, Provider.reason: param("reason")}).where(_THIS)
)
_PAUSE_FOR_A_WHILE = compiled(
    Provider.update(
        {
            # A probe that fails lengthens the pause; ``paused_at`` keeps the time at which the outage began.
            Provider.paused_at: fn.coalesce(Provider.paused_at, NOW),
            Provider.paused_until: NOW + param("seconds") * SECOND,
            Provider.pauses: Provider.pauses + 1,
            Provider.consecutive_failures: 0,
            Provider.probe_token: None,
            Provider.reason: param("reason"),
        }
    ).where(_THIS)
)


def read_provider(name: str, *, lock: bool = False) -> Row:
    """Return the provider's row, inside the current transaction; it is added where there is none.

    Args:
        name: the provider.
        lock: lock the row until the transaction ends.
    """
    # ON CONFLICT DO NOTHING waits for a concurrent insert of the same name, and then inserts nothing. The SELECT after
    # it has a new snapshot, which contains that row if it was committed.
    while (found := row(_READ_LOCKED if lock else _READ_UNLOCKED, name=name)) is None:
        execute(_ADD, name=name)
    return found


def begin_probe(name: str, token: UUID) -> None:
    """Record which attempt may call a paused provider: no other may for as long as that one holds its lease."""
    execute(_BEGIN_PROBE, name=name, token=token)


def record_success(name: str) -> None:
    """Reset the provider's failures after a call that succeeded, and resume it if it was paused for overload."""
    execute(_RECORD_SUCCESS, name=name)


def record_failure(name: str, failure: Failure, *, token: UUID) -> Effect:
    """Record a failed call, and pause the provider where that is due.

    Args:
        name: the provider.
        failure: what went wrong.
        token: the attempt's lease token.
    """
    if not (failure.pauses_provider or failure.overload):
        # The provider responded, and the request was at fault: that is no evidence about the provider's health.
        execute(_END_PROBE, name=name, token=token)
        return Effect(excused=False)
    # Locked before it is read: of several calls that fail at once, exactly one is the fifth and starts the pause.
    provider = read_provider(name, lock=True)
    was_probe = provider["probe_token"] == token
    if failure.pauses_provider:
        return _pause_until_resumed(name, provider, failure)
    # A call that began before the pause: its failure is the same outage, and must not lengthen the pause.
    if provider["paused_at"] is not None and not was_probe:
        return Effect(excused=True)
    if was_probe or provider["consecutive_failures"] + 1 >= OVERLOADS_BEFORE_PAUSE:
        # The stage whose failure pauses the provider becomes due after the others that wait. If that stage were itself
        # the cause, it would as the oldest be every probe, and keep a healthy provider paused for ever.
        pause = _pause_for_a_while(name, provider, failure)
        return Effect(excused=True, delay_seconds=pause + BEHIND_OTHERS_SECONDS)
    execute(_COUNT_FAILURE, name=name)
    return Effect(excused=False)


def pause(name: str, reason: str) -> None:
    """Pause a provider until somebody resumes it: no call of it begins, those in flight go on.

    Args:
        name: the provider.
        reason: why, for people.
    """
    read_provider(name, lock=True)
    execute(_PAUSE_UNTIL_RESUMED, name=name, reason=jsonb({"code": PAUSED_BY_HAND, "message": reason}))


def resume(name: str) -> bool:
    """Resume a paused provider; return whether it was paused."""
    return bool(execute(_RESUME, name=name))


def _pause_until_resumed(name: str, provider: Row, failure: Failure) -> Effect:
    # Calls that were in flight when the key was revoked fail alike; one failed stage is enough to show the reason. A
    # pause that would end by itself is replaced: no probe could succeed before a person acts.
    if provider["paused_at"] is not None and provider["paused_until"] is None:
        return Effect(excused=True)
    execute(_PAUSE_UNTIL_RESUMED, name=name, reason=_reason(failure))
    return Effect(excused=False)


def _pause_for_a_while(name: str, provider: Row, failure: Failure) -> float:
    # The exponent is bounded because ``pauses`` grows with each failed probe, and a float cannot hold 2 ** 1024.
    seconds: float = max(
        min(LONGEST_PAUSE_SECONDS, FIRST_PAUSE_SECONDS * 2 ** min(provider["pauses"], 16)),
        min(failure.retry_after or 0.0, LONGEST_PAUSE_SECONDS),
    )
    execute(_PAUSE_FOR_A_WHILE, name=name, seconds=seconds, reason=_reason(failure))
    return seconds


def _reason(failure: Failure) -> Json:
    return jsonb({"code": failure.code, "message": failure.message})
