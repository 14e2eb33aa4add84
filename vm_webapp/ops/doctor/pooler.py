"""Checks whether a pooler stands before PostgreSQL, and what it has made of the time-outs."""

from __future__ import annotations

import re
from contextlib import closing

import psycopg2

from vm_webapp.db.migrate.session import query
from vm_webapp.db.pool import SessionFacts
from vm_webapp.db.poolers import Mode, open_session
from vm_webapp.db.session_settings import SessionSettings
from vm_webapp.errors import PoolerInTransactionMode
from vm_webapp.fleet.installation import FINGERPRINT, read_fingerprint
from vm_webapp.ops.doctor.check import Check, fail, ok, warn
from vm_webapp.text import first_line

DIRECT = "VM_DB_DIRECT_URL"
MILLISECONDS = {"ms": 1, "s": 1000, "min": 60_000, "h": 3_600_000, "d": 86_400_000, "": 1}
SETTINGS = SessionSettings({"statement_timeout": "3000", "lock_timeout": "500"})


def judge_time_outs(facts: SessionFacts) -> Check:
    """Judge whether the time-outs that bound each request and each lock are in force, as SHOW says."""
    wrong = [
        f"{name} is {shown} instead of {int(facts.expected[name]) / 1000:g}s"
        for name, shown in facts.time_outs.items()
        if _milliseconds(shown) != int(facts.expected[name])
    ]
    if wrong:
        return fail(
            "time outs", ", ".join(wrong), "connect past what changes them: the pooler, or a rule of the server"
        )
    detail = ", ".join(f"{name} {shown}" for name, shown in facts.time_outs.items())
    if facts.options != "taken":
        detail += f"; the pooler {facts.options} them as start-up options, so each transaction brings them"
    return ok("time outs", detail)


def judge_pooler(mode: Mode, *, direct: str | None) -> Check:
    """Judge what stands between this process and PostgreSQL.

    Args:
        mode: what a connection of the pool is.
        direct: the address past a pooler, None if there is none.
    """
    if mode == "direct":
        return ok("pooler", "none: PostgreSQL itself answers")
    if mode == "session":
        return ok("pooler", "one in session mode")
    if direct is None:
        return warn(
            "pooler",
            f"one in transaction mode and no {DIRECT}: migrate is refused, and workers renew their leases through it",
            f"set {DIRECT} to the address of PostgreSQL itself, or of a pooler in session mode",
        )
    return ok("pooler", f"one in transaction mode; migrations and the renewal of leases use {DIRECT}")


def check_direct_address(address: str) -> Check:
    """Check whether the address past a pooler leads to the same database, and gives sessions."""
    name = "direct address"
    try:
        with closing(open_session(address, SETTINGS, connect_timeout=3)) as session:
            found = query(session, FINGERPRINT)
    except PoolerInTransactionMode:
        return fail(
            name, f"{DIRECT} is a pooler in transaction mode: migrate is refused", f"set {DIRECT} to PostgreSQL"
        )
    except psycopg2.Error as error:
        return fail(name, first_line(error), f"check {DIRECT}: workers cannot renew their leases without it")
    if [each["fingerprint"] for each in found] != [read_fingerprint()]:
        return fail(name, f"{DIRECT} leads to another database than VM_DB_URL", "give both the same database")
    return ok(name, f"{DIRECT} leads to the same database")


def _milliseconds(shown: str) -> int:
    found = re.fullmatch(r"(\d+)(\w*)", shown)
    return int(found[1]) * MILLISECONDS.get(found[2], 0) if found else -1
