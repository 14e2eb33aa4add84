"""The calls that changed the number of workers, and who makes them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal, get_args
from uuid import UUID

from vm_webapp.db.pool import Row, autocommit, execute, row, rows
from vm_webapp.fleet.duty_leases import HELD
from vm_webapp.text import shortened

Outcome = Literal["scaled", "dry_run", "refused", "failed", "differs"]
OUTCOMES: tuple[Outcome, ...] = get_args(Outcome)

SHOWN = 10
# At most six calls a minute are made: more than these are older than an hour.
_OF_AN_HOUR = 400
# More than are recorded in a minute, refusals, trials and failed readings included.
_OF_A_MINUTE = 100

SCALING = f"""
    SELECT held.holder, held.details ->> 'service' AS scales, calls.*
      FROM (SELECT) once
      LEFT JOIN duty_leases held ON held.name = 'scale' AND held.expires_at > clock_timestamp()
      LEFT JOIN (SELECT id, at, service, was, wanted, outcome, detail
                   FROM scale_calls ORDER BY id DESC LIMIT {SHOWN}) calls ON true
"""
"""SQL: who scales now, and the last ten calls; for ``scaling_of``, with the newest ``id`` first."""
_COUNT = f"""
    SELECT outcome, count(*) AS calls
      FROM (SELECT at, outcome FROM scale_calls ORDER BY id DESC LIMIT {_OF_AN_HOUR}) newest
     WHERE at > clock_timestamp() - interval '1 h' GROUP BY outcome ORDER BY outcome
"""
_RECORD = f"""
    INSERT INTO scale_calls (service, was, wanted, outcome, detail)
    SELECT %(service)s, %(was)s, %(wanted)s, %(outcome)s, %(detail)s WHERE {HELD}
    RETURNING id
"""
_END = "UPDATE scale_calls SET outcome = %(outcome)s, detail = %(detail)s WHERE id = %(id)s"
_AGES = f"""
    SELECT extract(epoch FROM clock_timestamp() - at)::double precision AS age
      FROM (SELECT at, was, outcome FROM scale_calls ORDER BY id DESC LIMIT {_OF_A_MINUTE}) newest
     WHERE at > clock_timestamp() - interval '1 min' AND was IS NOT NULL AND outcome NOT IN ('dry_run', 'refused')
     ORDER BY at
"""


@dataclass(frozen=True, slots=True)
class Scaler:
    """The process that changes the number of workers now.

    Attributes:
        holder: host and process.
        service: what it scales, by the platform's id; None if it does not say.
    """

    holder: str
    service: str | None


@dataclass(frozen=True, slots=True)
class ScaleCall:
    """A call to the platform.

    Attributes:
        service: the service that was to be scaled, by the platform's id.
        was: its number of instances before; None if it could not be read, and so no other was asked for.
        wanted: the number that was asked for.
        outcome: ``differs`` where the platform accepted the number and then had another one.
        detail: what the platform said, or why the call was not made.
    """

    at: datetime
    service: str
    was: int | None
    wanted: int
    outcome: Outcome
    detail: str


def scaling_of(found: Sequence[Row]) -> tuple[Scaler | None, tuple[ScaleCall, ...]]:
    """Return who scales now, None if nobody does, and the last ten calls, newest first, from rows of ``SCALING``."""
    scaler = Scaler(found[0]["holder"], found[0]["scales"]) if found[0]["holder"] is not None else None
    calls = [
        ScaleCall(each["at"], each["service"], each["was"], each["wanted"], each["outcome"], each["detail"])
        for each in found
        if each["id"] is not None
    ]
    return scaler, tuple(calls)


def count_calls() -> dict[str, int]:
    """Return how many calls of the last hour had each outcome, inside the current transaction."""
    return {each["outcome"]: each["calls"] for each in rows(_COUNT)}


def record_if_held(
    lease: str, token: UUID, service: str, was: int | None, wanted: int, outcome: Outcome, detail: str
) -> int | None:
    """Record a call, or why none is made; the last five arguments are the fields of ``ScaleCall``.

    Args:
        lease: the name of the lease under which it is made.
        token: the lease's token.

    Returns:
        Its id; None if another process has the lease.

    Raises:
        DatabaseUnavailable: it is not recorded.
    """
    with autocommit():
        found = row(
            _RECORD,
            lease=lease,
            token=token,
            service=service,
            was=was,
            wanted=wanted,
            outcome=outcome,
            detail=shortened(detail),
        )
    return found["id"] if found else None


def end_call(call: int, outcome: Outcome, detail: str) -> None:
    """Record what became of a call.

    Args:
        call: its id.
        outcome: what became of it.
        detail: what the platform said, or why the number was set.

    Raises:
        DatabaseUnavailable: it is not recorded.
    """
    with autocommit():
        execute(_END, id=call, outcome=outcome, detail=shortened(detail))


def read_ages() -> list[float]:
    """Return how many seconds ago the calls of the last minute were made, whoever made them, the oldest first.

    Raises:
        DatabaseUnavailable: unknown.
    """
    with autocommit():
        return [each["age"] for each in rows(_AGES)]
