"""Checks what keeps the audit trail from being rewritten, and that it is sealed."""

from __future__ import annotations

from vm_webapp.access.audit.sealing import UNSEALED
from vm_webapp.db.pool import Row, row, rows
from vm_webapp.ops.doctor.check import Check, fail, ok, warn

LATE_MINUTES = 5
KEPT = ("audit_entries", "audit_seals", "audit_pruned")  # rows are only added
NEEDED = {"audit_entries": "SELECT, INSERT", "audit_seals": "SELECT, INSERT", "audit_pruned": "SELECT"}
NEEDED_OF_HEAD = "SELECT, INSERT, UPDATE"
PRUNE = "prune_audit(interval, integer)"
TRIGGERS = {
    **{f"only_added on {table}": (table, "only_added") for table in KEPT},
    **{f"never_emptied on {table}": (table, "never_emptied") for table in KEPT},
    "only_old_seals on audit_pruned": ("audit_pruned", "only_old_seals"),
}

_ROLE = """
    SELECT quote_ident(current_user) AS role, bool_or(pg_has_role(current_user, relowner, 'USAGE')) AS owns
      FROM pg_class WHERE oid = ANY(%(tables)s::regclass[])
"""
_TRIGGERS = """
    SELECT tgrelid::regclass::text AS table, tgname AS name, tgenabled <> 'D' AS enabled
      FROM pg_trigger WHERE tgrelid = ANY(%(tables)s::regclass[]) AND NOT tgisinternal
"""
_TOO_MUCH = """
    SELECT name FROM unnest(%(tables)s::text[]) name
     WHERE has_table_privilege(name, 'UPDATE') OR has_table_privilege(name, 'DELETE')
        OR has_table_privilege(name, 'TRUNCATE') OR has_table_privilege(name, 'TRIGGER')
"""
_HAS = "SELECT bool_and(has_table_privilege(%(table)s, each)) AS has FROM unnest(%(rights)s::text[]) each"
_MAY_PRUNE = "SELECT has_function_privilege(%(function)s, 'EXECUTE') AS has"
_LATE = f"""
    SELECT count(*) AS n FROM audit_entries e
     WHERE e.id > coalesce((SELECT low_id FROM audit_head), 0) AND {UNSEALED}
       AND e.at < clock_timestamp() - {LATE_MINUTES} * interval '1 minute'
"""


def check_audit() -> Check:
    """Check whether triggers, and privileges, keep rows from being changed, and whether somebody seals them."""
    found = row(_ROLE, tables=list(KEPT))
    assert found is not None
    return _triggers() or _privileges(found) or _sealing() or _described(found)


def _described(found: Row) -> Check:
    if found["owns"]:
        owner = f"{found['role']} owns the tables and could switch it off, which a service's own role could not"
        return ok("audit", f"append-only by trigger; {owner}")
    return ok("audit", f"append-only by trigger, and by privilege: {found['role']} may neither change nor delete rows")


def _triggers() -> Check | None:
    enabled = {(each["table"], each["name"]): each["enabled"] for each in rows(_TRIGGERS, tables=list(KEPT))}
    off = [(name, place) for name, place in TRIGGERS.items() if not enabled.get(place)]
    if not off:
        return None
    names = ", ".join(name for name, _ in off)
    todo = [f"ALTER TABLE {place[0]} ENABLE TRIGGER {place[1]}" for _, place in off if place in enabled]
    if gone := [name for name, place in off if place not in enabled]:
        todo.append(f"create {', '.join(gone)} again, as in migration 0013_audit")
    return warn("audit", f"rows can be changed, for triggers are off: {names}", "; ".join(todo))


def _privileges(found: Row) -> Check | None:
    if found["owns"]:
        return None
    role = found["role"]
    grants = [
        f"GRANT {rights} ON {table} TO {role}"
        for table, rights in {**NEEDED, "audit_head": NEEDED_OF_HEAD}.items()
        if not _has(_HAS, table=table, rights=rights.split(", "))
    ]
    if not _has(_MAY_PRUNE, function=PRUNE):
        grants.append(f"GRANT EXECUTE ON FUNCTION {PRUNE} TO {role}")
    if grants:
        lacks = f"{role} lacks rights to record changes or to seal them"
        return fail("audit", lacks, f"as the owner: {'; '.join(grants)}")
    tables = [each["name"] for each in rows(_TOO_MUCH, tables=list(KEPT))]
    if tables:
        revoke = f"REVOKE UPDATE, DELETE, TRUNCATE, TRIGGER ON {', '.join(tables)} FROM {role}"
        has = f"append-only by trigger alone: {role} has more rights than it needs"
        return warn("audit", has, f"as the owner: {revoke}")
    return None


def _sealing() -> Check | None:
    late = row(_LATE)
    if not late or not late["n"]:
        return None
    detail = f"{late['n']} entries have not been sealed for more than {LATE_MINUTES} minutes"
    return warn("audit", detail, "workers seal: see the checks of workers and of loop errors, and end old transactions")


def _has(statement: str, **values: object) -> bool:
    found = row(statement, **values)
    return bool(found and found["has"])
