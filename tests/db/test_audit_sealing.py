"""Entries are chained behind the changes that they record: in batches, only settled ones, by one process at a time."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any

import psycopg2
import pytest

from tests.support.audit import ANN, add, chained, entries, seal_all, tamper
from tests.support.runs import read
from tests.support.statements import counted
from tests.support.waiting import eventually
from vm_webapp.access.audit import record, sealing
from vm_webapp.access.audit.sealing import is_sealing_due, seal_batch
from vm_webapp.access.audit.verification import verify
from vm_webapp.db.pool import close_pool, execute, open_pool, transaction

ADD = "INSERT INTO audit_entries (actor, action, target) VALUES ('key:bob', 'run.cancel', %s)"


@contextmanager
def open_transaction(url: str, target: str) -> Iterator[Any]:
    """Yield a session with a transaction that has added an entry and not committed it."""
    with closing(psycopg2.connect(url)) as session, session.cursor() as cursor:
        cursor.execute(ADD, (target,))
        yield session


def test_settled_entries_are_chained_in_the_order_of_their_ids(database: str) -> None:
    add("run:1", "run:2", "run:3")
    assert verify().unsealed == 3
    assert seal_all() == 3
    assert chained() == ["run:1", "run:2", "run:3"]
    found = verify()
    assert (found.end.position, found.unsealed) == (3, 0)


def test_an_entry_that_was_begun_before_and_committed_after_others_is_chained_behind_them(database: str) -> None:
    with open_transaction(database, "run:first") as first:
        add("run:second")
        with open_transaction(database, "run:third") as third:
            add("run:fourth")
            assert seal_all() == 0  # a transaction in progress is older than both that have committed
            third.commit()
            assert seal_all() == 0
            first.commit()
    assert seal_all() == 4
    assert verify().end.position == 4


def test_two_transactions_that_commit_in_inverted_order_while_it_seals_lose_nothing(database: str) -> None:
    add("run:before")
    seal_all()
    with open_transaction(database, "run:low") as low, open_transaction(database, "run:high") as high:
        high.commit()
        seal_all()
        assert chained() == ["run:before"]
        add("run:later")
        seal_all()
        low.commit()
    seal_all()
    assert chained() == ["run:before", "run:low", "run:high", "run:later"]
    assert verify().unsealed == 0


def test_a_smaller_id_of_a_newer_transaction_is_chained_later(database: str) -> None:
    with closing(psycopg2.connect(database)) as older, older.cursor() as cursor:
        cursor.execute("SELECT pg_current_xact_id()")
        with open_transaction(database, "run:small-id") as newer:
            cursor.execute(ADD, ("run:large-id",))
            older.commit()
            seal_all()
            assert chained() == ["run:large-id"]
            newer.commit()
    seal_all()
    assert chained() == ["run:large-id", "run:small-id"]
    assert verify().unsealed == 0


def test_a_batch_is_bounded(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(3):
        with transaction():
            for each in range(200):
                record(ANN, "run.cancel", f"run:{number}-{each}")
    assert [seal_batch(), seal_batch(), seal_batch()] == [sealing.BATCH, 100, 0]
    assert verify().end.position == 600


def test_sealers_at_once_make_one_chain(database: str) -> None:
    add(*(f"run:{number}" for number in range(40)))
    threads = [threading.Thread(target=seal_all) for _ in range(4)]
    adding = threading.Thread(target=add, args=[f"run:{number}" for number in range(40, 80)])
    for thread in (*threads, adding):
        thread.start()
    for thread in (*threads, adding):
        thread.join()
    seal_all()
    assert len(chained()) == len(set(chained())) == 80
    assert verify().end.position == 80


def test_a_sealer_that_finds_another_at_work_leaves_it_to_that_one(database: str) -> None:
    add("run:1")
    seal_all()
    add("run:2")
    with closing(psycopg2.connect(database)) as other, other.cursor() as cursor:
        cursor.execute("SELECT FROM audit_head FOR UPDATE")
        assert seal_batch() == 0
        other.rollback()
    assert seal_batch() == 1


def test_one_that_is_killed_in_the_middle_leaves_the_chain_as_it_was(database: str) -> None:
    add("run:1")
    seal_all()
    add("run:2")
    with closing(psycopg2.connect(database)) as dying, dying.cursor() as cursor:
        cursor.execute("SELECT FROM audit_head FOR UPDATE")
        cursor.execute(
            "INSERT INTO audit_seals (position, entry_id, hash) VALUES (2, 99, decode(repeat('00', 32), 'hex'))"
        )
        cursor.execute("UPDATE audit_head SET position = 2")
        with transaction():
            assert read("SELECT pg_terminate_backend(%(pid)s) AS ended", pid=dying.info.backend_pid)[0]["ended"]
    # The server needs a moment to end the session.
    assert eventually(seal_all, "the entry is sealed") == 1
    assert chained() == ["run:1", "run:2"]
    verify()


def test_an_idle_look_is_one_statement_and_writes_nothing(database: str) -> None:
    add("run:1")
    seal_all()
    close_pool()
    with counted(database) as (traffic, url):
        open_pool(url, max_connections=1, application_name="tests")
        assert not is_sealing_due()
        traffic.taken()
        assert not is_sealing_due()
        queries = traffic.taken()
        close_pool()
    assert len(queries) == 1
    open_pool(database, max_connections=4, application_name="tests")
    before = read("SELECT pg_snapshot_xmax(pg_current_snapshot())::text AS xmax")
    assert not is_sealing_due()
    assert read("SELECT pg_snapshot_xmax(pg_current_snapshot())::text AS xmax") == before


def test_what_is_chained_is_not_looked_at_again(database: str) -> None:
    add("run:1", "run:2")
    seal_all()
    (head,) = read("SELECT low_id, (SELECT max(id) FROM audit_entries) AS newest FROM audit_head")
    assert head["low_id"] == head["newest"]


def test_a_look_reads_nothing_that_is_chained(database: str) -> None:
    """However long the trail is, and without statistics, which a new table does not have."""
    with transaction():
        execute(
            "INSERT INTO audit_entries (actor, action) SELECT 'key:ann', 'run.create' FROM generate_series(1, 3000)"
        )
    seal_all()
    plan = read(f"EXPLAIN (ANALYZE, BUFFERS, FORMAT json) {sealing._LOOK}")[0]["QUERY PLAN"][0]["Plan"]
    assert plan["Shared Hit Blocks"] + plan["Shared Read Blocks"] < 20


def test_entries_restored_from_a_server_with_larger_transaction_ids_are_sealed(database: str) -> None:
    add("run:1")
    seal_all()
    add("run:2")
    # What a dump carries over: the columns as they were.
    tamper(database, "UPDATE audit_entries SET xid = '99999999'; UPDATE audit_head SET mark_xid = '99999999'")
    add("run:3")
    assert seal_all() == 2
    assert chained() == ["run:1", "run:2", "run:3"]
    verify()


def test_a_change_that_is_rolled_back_leaves_no_entry(database: str) -> None:
    def fail() -> None:
        with transaction():
            record(ANN, "run.cancel", "run:1")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert entries() == []


def test_no_change_waits_for_another_ones_entry_or_for_the_sealing(database: str) -> None:
    with open_transaction(database, "run:open"), closing(psycopg2.connect(database)) as sealer:
        with sealer.cursor() as cursor:
            cursor.execute("INSERT INTO audit_head DEFAULT VALUES")
        add("run:1")  # would time out
    assert [entry["target"] for entry in entries()] == ["run:1"]


@pytest.mark.parametrize("value", [1.5, {"a": 1}, b"x", [1.5]], ids=str)
def test_data_takes_only_what_every_program_writes_in_the_same_way(database: str, value: Any) -> None:
    with pytest.raises(TypeError), transaction():
        record(ANN, "run.cancel", "run:1", data={"value": value})
