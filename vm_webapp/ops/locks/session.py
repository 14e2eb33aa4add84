"""A session of PostgreSQL that holds the program up, and what may be done about it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any


@dataclass(frozen=True, slots=True)
class Holder:
    """The session that holds a lock.

    Attributes:
        pid: its process on the server.
        since: when its transaction began, or its statement if it is in none; None if this role may not see it.
        state: such as ``idle in transaction``; None if this role may not see it.
        waits_for: a session that it waits for itself, None if it waits for none.
        superuser: whether its user is a superuser, whose sessions no other user may end.
        may_end: whether this role may end it.
        role: this role, quoted as in SQL.
    """

    pid: int
    user: str
    application: str
    since: datetime | None
    state: str | None
    waits_for: int | None
    superuser: bool
    may_end: bool
    role: str

    @property
    def end(self) -> str:
        """The statement that ends the session; its transaction is then rolled back."""
        return f"SELECT pg_terminate_backend({self.pid})"

    @property
    def needs(self) -> tuple[str, ...]:
        """What this role lacks, as statements for an administrator: to see the session's state, and to end it."""
        see = () if self.state else (f"GRANT pg_read_all_stats TO {self.role}",)
        end = () if self.may_end or self.superuser else (f"GRANT pg_signal_backend TO {self.role}",)
        return see + end

    @property
    def description(self) -> str:
        """The session in one line."""
        began = self.since.astimezone(UTC) if self.since else None
        since = f"since {began:%Y-%m-%d %H:%M:%S} UTC" if began else "since a time that this role may not see"
        waits = f", which itself waits for pid {self.waits_for}" if self.waits_for else ""
        state = f", {self.state}" if self.state else ""
        application = f", {self.application}" if self.application else ""
        return f"pid {self.pid} (user {self.user}{application}{state}) {since}{waits}"

    @property
    def todo(self) -> str:
        """What ends the session, or who may."""
        command = f'psql "$VM_DB_URL" -c "{self.end}"'
        if self.may_end:
            return "; ".join([command, *self.needs])
        if self.superuser:
            return f"only a superuser may end it: {self.end}"
        return f"as an administrator: {'; '.join([*self.needs, self.end])}"

    def facts(self) -> dict[str, Any]:
        """Return the session as JSON values, for callers who may see sessions."""
        facts: dict[str, Any] = {
            "pid": self.pid,
            "user": self.user,
            "application": self.application,
            "state": self.state,
            "since": self.since.isoformat() if self.since else None,
            "end": self.end,
        }
        if self.waits_for:
            facts["waits_for"] = self.waits_for
        if self.superuser and not self.may_end:
            facts["note"] = "only a superuser may end it"
        return facts | ({"needs": list(self.needs)} if self.needs else {})


@dataclass(frozen=True, slots=True)
class Lock:
    """A lock that holds the program up.

    Attributes:
        what: the lock, as in ``a lock on the table runs``.
        table: the table that it is on, empty for an advisory lock.
        mode: as SQL spells it; ``row`` for the lock of a row, ``advisory`` for one of those.
        stops_work: whether no run is created, or no stage claimed or finished.
        holds_up_workers: whether it explains that workers are silent or claim nothing.
        hindered: what waits, if work does not.
    """

    what: str
    table: str
    mode: str
    stops_work: bool
    holds_up_workers: bool
    hindered: str
    holder: Holder

    def facts(self) -> dict[str, Any]:
        """Return the lock and its session as JSON values, for callers who may see sessions."""
        return {"lock": self.what, "mode": self.mode} | self.holder.facts()
