"""The pauses in force: of the queue, by an operator; of a provider, by its failures."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from peewee import SQL

from vm_webapp.db.models import Provider, Queue
from vm_webapp.db.pool import rows
from vm_webapp.db.prepared import prepared


@dataclass(frozen=True, slots=True)
class Pause:
    """A pause of the queue or of a provider.

    Attributes:
        since: when it began.
        until: when it ends by itself; None where a person must end it.
        by: who paused the queue.
        code: stable identifier of the failure that paused a provider.
        reason: why, in words; None where no reason was given.
    """

    since: datetime
    until: datetime | None = None
    by: str | None = None
    code: str | None = None
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class Pauses:
    """Every pause in force: the queue's, and those of providers by name."""

    queue: Pause | None
    providers: dict[str, Pause]


NO_PAUSES = Pauses(None, {})

# One statement, and thus one snapshot, for both kinds. The name NULL stands for the queue, since no provider has it.
# The columns of a UNION are paired by position; its first branch names them and must alias its NULL, the second need
# not.
READ = prepared(
    Provider.select(
        Provider.name.alias("provider"),
        Provider.paused_at,
        Provider.paused_until,
        SQL("NULL AS paused_by"),
        Provider.reason["code"].alias("code"),
        Provider.reason["message"].alias("reason"),
    )
    .where(Provider.paused_at.is_null(False))
    .union_all(
        Queue.select(SQL("NULL"), Queue.paused_at, SQL("NULL"), Queue.paused_by, SQL("NULL"), Queue.reason).where(
            Queue.name == "stages", Queue.paused_at.is_null(False)
        )
    )
    .order_by(SQL("provider"))
)


def read_pauses() -> Pauses:
    """Return every pause, inside the current transaction. ``admission`` decides what a pause holds back."""
    pauses = {
        found["provider"]: Pause(
            found["paused_at"], found["paused_until"], found["paused_by"], found["code"], found["reason"]
        )
        for found in rows(READ)
    }
    return Pauses(pauses.pop(None, None), pauses)
