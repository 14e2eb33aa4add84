"""The doctor's checks by name."""

from __future__ import annotations

from vm_webapp.ops.doctor import Check, examine
from vm_webapp.settings import Settings

NOWHERE = "redis://127.0.0.1:1/0"
NAMES = [
    "database",
    "locks",
    "schema",
    "redis",
    "redis policy",
    "one database",
    "workers",
    "loop errors",
    "starts",
    "queue",
    "oldest due",
    "provider",
    "time zones",
    "last model call",
    "clock",
    "indexes",
    "audit",
    "worker workspace",
    "connections",
    "time outs",
    "pooler",
    "versions",
    "workspace",
]


def checks(redis_url: str | None = None, *, managed: bool = False) -> dict[str, Check]:
    """Return the doctor's checks by name; each that is not ok must say what to do next."""
    found = examine(Settings(managed=managed), redis_url)
    assert all(bool(check.next) == (check.verdict != "ok") for check in found)
    assert all("\n" not in check.detail for check in found)
    assert len({check.name for check in found}) == len(found)
    return {check.name: check for check in found}
