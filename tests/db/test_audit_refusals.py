"""Refused attempts become entries of the audit trail."""

from __future__ import annotations

from tests.support.audit import entries, seal_all
from vm_webapp.access.audit.refusals import Refusal, RefusalLog, write_refusals
from vm_webapp.access.audit.verification import verify


def test_refusals_are_entries_like_others_and_are_sealed(database: str) -> None:
    write_refusals(
        [
            Refusal("unauthorized", "192.0.2.1", "POST /api/v2/runs", request_id="r1"),
            Refusal("forbidden", "192.0.2.2", None, "key:ann", "person-1", "viewer", "r2", 7),
        ]
    )
    first, second = entries()
    assert {name: first[name] for name in ("actor", "actor_id", "role", "address", "request_id", "action")} == {
        "actor": "anonymous",
        "actor_id": None,
        "role": None,
        "address": "192.0.2.1",
        "request_id": "r1",
        "action": "request.refused",
    }
    assert (first["target"], first["result"]) == ("POST /api/v2/runs", "refused")
    assert first["data"] == {"reason": "unauthorized", "count": 1}
    assert (second["actor"], second["actor_id"], second["role"], second["data"]["count"]) == (
        *("key:ann", "person-1", "viewer"),
        7,
    )
    assert seal_all() == 2
    verify()


def test_a_log_writes_to_the_database_of_the_process(database: str) -> None:
    log = RefusalLog()
    for _ in range(12):
        log.note(Refusal("unauthorized", "192.0.2.1"))
    log.close()
    assert [entry["data"]["count"] for entry in entries(result="refused")] == [1] * 10 + [2]
