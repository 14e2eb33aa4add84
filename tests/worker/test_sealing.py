"""A worker seals the audit trail and removes its oldest part, at a price that an idle system does not notice."""

from __future__ import annotations

from contextlib import suppress
from datetime import timedelta

import pytest

from actors import pulse as pulse_module
from actors.duties.purge import PurgeAudit
from tests.support.audit import add, chained, seal_all, tamper
from tests.support.runs import read
from tests.support.statements import counted
from tests.worker.conftest import MakePulse
from tests.worker.ticks import tick
from vm_webapp.access.audit import retention, sealing
from vm_webapp.access.audit.verification import verify
from vm_webapp.db.pool import close_pool, open_pool
from vm_webapp.errors import DatabaseUnavailable, VMError
from vm_webapp.settings import Settings, read_settings


def test_what_people_do_is_sealed_within_ten_seconds(make_pulse: MakePulse) -> None:
    pulse = make_pulse()
    tick(pulse, *range(1, 6))
    add("run:1", "run:2")
    tick(pulse, *(float(second) for second in range(6, 18)))
    assert chained() == ["run:1", "run:2"]
    assert verify().unsealed == 0


def test_batches_follow_one_another_tick_by_tick(make_pulse: MakePulse, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("actors.duties.seal.BATCH", 2)
    monkeypatch.setattr(sealing, "BATCH", 2)
    monkeypatch.setattr(sealing, "_NEXT", sealing._NEXT.replace("LIMIT 500", "LIMIT 2"))
    add(*(f"run:{number}" for number in range(5)))
    pulse = make_pulse()
    sealed = []
    for second in range(1, 9):
        tick(pulse, float(second))
        sealed.append(len(chained()))
    assert sealed == [0, 0, 0, 2, 4, 5, 5, 5]  # the first ticks purge


def test_an_idle_worker_asks_once_in_ten_seconds_whether_anything_is_new(make_pulse: MakePulse, database: str) -> None:
    add("run:1")
    seal_all()
    pulse = make_pulse()
    tick(pulse, *(float(second) for second in range(1, 10)))
    close_pool()
    with counted(database) as (traffic, url):
        open_pool(url, max_connections=1, application_name="tests")
        tick(pulse, *(float(second) for second in range(100, 160)))
        looks = [query for query in traffic.taken() if "audit_entries" in query.sql]
        close_pool()
    open_pool(database, max_connections=4, application_name="tests")
    assert len(looks) == 6
    assert {query.sql.split(maxsplit=1)[0] for query in looks} == {"SELECT"}


def test_a_failed_seal_waits_a_minute_and_keeps_no_other_duty(
    make_pulse: MakePulse, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail() -> bool:
        tries.append(1)
        raise DatabaseUnavailable("permission denied for table audit_entries")

    tries: list[int] = []
    pulse = make_pulse()
    tick(pulse, 1.0, 2.0, 3.0)
    monkeypatch.setattr("actors.duties.seal.is_sealing_due", fail)
    (before,) = read("SELECT last_tick_at FROM worker_heartbeats")
    for second in range(4, 60):
        with suppress(DatabaseUnavailable):
            tick(pulse, float(second))
    assert len(tries) == 1
    assert read("SELECT last_tick_at FROM worker_heartbeats") != [before]
    assert pulse_module.RETRY_SEAL_SECONDS == 60


def test_the_oldest_entries_are_removed_in_batches(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retention, "BATCH", 2)
    add(*(f"run:{number}" for number in range(5)))
    tamper(database, "UPDATE audit_entries SET at = at - interval '100 days'")
    seal_all()
    assert not PurgeAudit(None).run_once()
    assert len(chained()) == 5
    duty = PurgeAudit(timedelta(days=90))
    assert [duty.run_once() for _ in range(3)] == [True, True, False]
    assert chained() == []
    assert verify().end.position == 5


@pytest.mark.parametrize(("value", "keep"), [("", None), ("400d", timedelta(days=400)), ("30d", timedelta(days=30))])
def test_everything_is_kept_unless_the_environment_says_how_long(
    monkeypatch: pytest.MonkeyPatch, value: str, keep: timedelta | None
) -> None:
    monkeypatch.setenv("VM_AUDIT_KEEP", value)
    assert read_settings().audit_keep == keep
    assert Settings().audit_keep is None


def test_less_than_thirty_days_is_refused_with_the_name_of_the_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VM_AUDIT_KEEP", "29d")
    with pytest.raises(VMError, match="VM_AUDIT_KEEP must be at least 30d"):
        read_settings()
