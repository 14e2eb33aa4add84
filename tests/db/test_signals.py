"""What the core tells: after a commit and never without one, once a transaction, and to nobody's harm."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, suppress
from uuid import UUID, uuid4

import psycopg2
import pytest
from peewee import DatabaseError, InternalError, OperationalError

from tests.db.attempts import OVERLOADED, REFUSED, TEXT, claimed, wait_for_approval
from tests.db.stages import create_stages, expire_leases
from tests.support.runs import create, read, types
from vm_webapp.db.pool import database, dedicated_connection, execute, row, rows, transaction
from vm_webapp.errors import DatabaseUnavailable
from vm_webapp.idempotency import KeyScope, StoredResponse, run_once_per_key
from vm_webapp.ops import bulk
from vm_webapp.ops.bulk import BulkFilter
from vm_webapp.runs import lifecycle
from vm_webapp.runs.lifecycle import Claim, Claimant, Finished, NewRun
from vm_webapp.runs.signals import Signal, run_changed, stage_due
from vm_webapp.runs.states import Failure
from vm_webapp.workflows.loader import load_catalog

pytestmark = pytest.mark.usefixtures("database")

WORKER = Claimant(uuid4(), "kimi")
ID = UUID(int=7)


class Heard:
    """What was told, in order."""

    def __init__(self) -> None:
        self.due: list[UUID] = []
        self.changed: list[UUID] = []

    def clear(self) -> None:
        """Forget it."""
        self.due.clear()
        self.changed.clear()


@pytest.fixture
def heard() -> Iterator[Heard]:
    told = Heard()
    with stage_due.connected(told.due.append), run_changed.connected(told.changed.append):
        yield told


def queued_stage(run_id: UUID) -> UUID:
    """Return the stage of a run that is queued, of which there is one."""
    (stage,) = read("SELECT id FROM stages WHERE run_id = %(run)s AND status = 'queued'", run=run_id)
    found: UUID = stage["id"]
    return found


def test_a_signal_fires_when_the_commit_is_done_and_the_connection_given_back(heard: Heard) -> None:
    seen: list[tuple[object, int]] = []
    signal = Signal("tested")

    def look(id: UUID) -> None:
        seen.append((database.in_transaction(), database.taken))

    with signal.connected(look):
        with transaction():
            execute("UPDATE queues SET reason = 'x'")
            signal.raise_after_commit(ID)
            assert seen == []
        assert seen == [(False, 0)]


def test_within_another_transaction_it_waits_for_that_one_and_fires_once(heard: Heard) -> None:
    with transaction():
        with transaction():
            run_changed.raise_after_commit(ID)
        run_changed.raise_after_commit(ID)
        assert heard.changed == []
    assert heard.changed == [ID]


def test_a_statement_that_commits_by_itself_fires_at_once(heard: Heard) -> None:
    with database.connection_context():
        database.execute_sql("UPDATE queues SET reason = 'x'")
        run_changed.raise_after_commit(ID)
        assert heard.changed == [ID]


def test_what_is_rolled_back_is_never_told_not_even_by_the_next_commit(heard: Heard) -> None:
    with suppress(ZeroDivisionError), transaction():
        run_changed.raise_after_commit(ID)
        raise ZeroDivisionError
    with transaction():
        execute("UPDATE queues SET reason = 'x'")
    assert heard.changed == []


def test_a_block_that_goes_on_after_a_failed_statement_commits_nothing_and_says_so(heard: Heard) -> None:
    def go_on() -> None:
        with transaction():
            execute("UPDATE queues SET reason = 'x'")
            run_changed.raise_after_commit(ID)
            with suppress(DatabaseError):
                execute("SELECT nothing")

    with pytest.raises(InternalError, match="nothing can be committed"):
        go_on()
    assert heard.changed == []
    assert read("SELECT reason FROM queues") == [{"reason": None}]


def test_a_connection_that_breaks_before_the_commit_tells_nothing(heard: Heard, database: str) -> None:
    def break_off() -> None:
        with transaction():
            found = row("SELECT pg_backend_pid() AS pid")
            assert found is not None
            run_changed.raise_after_commit(ID)
            with closing(psycopg2.connect(database)) as session, session.cursor() as cursor:
                cursor.execute("SELECT pg_terminate_backend(%s, 5000)", (found["pid"],))

    with pytest.raises(DatabaseUnavailable):
        break_off()
    assert heard.changed == []


def test_a_handler_that_raises_is_logged_and_changes_nothing(heard: Heard, caplog: pytest.LogCaptureFixture) -> None:
    def break_down(id: UUID) -> None:
        raise RuntimeError("a full disk")

    with ExitStack() as stack:
        for handler in (break_down, (later := list[UUID]()).append):
            stack.enter_context(stage_due.connected(handler))
        run = lifecycle.create_run(NewRun(load_catalog().get("smoke"), "x"), actor="tests")
    assert run.status == "queued"
    assert later == heard.due == [queued_stage(run.id)]
    (record,) = [each for each in caplog.records if each.message == "signal.failed"]
    assert record.exc_info is not None


def test_a_handler_hears_nothing_after_its_block() -> None:
    told: list[UUID] = []
    signal = Signal("tested")
    with signal.connected(told.append):
        pass
    signal.raise_after_commit(ID)
    assert told == []


def test_an_idempotent_replay_tells_nothing(heard: Heard) -> None:
    def effect() -> StoredResponse:
        lifecycle.create_run(NewRun(load_catalog().get("smoke"), "x"), actor="tests")
        return StoredResponse(201, {}, b"{}")

    scope = KeyScope("tests", "POST", "/runs", "key")
    assert run_once_per_key(scope, b"{}", effect)[1] is False
    assert (len(heard.due), len(heard.changed)) == (1, 1)
    heard.clear()
    assert run_once_per_key(scope, b"{}", effect)[1] is True
    assert (heard.due, heard.changed) == ([], [])


def create_it() -> UUID:
    return lifecycle.create_run(NewRun(load_catalog().get("smoke"), "x"), actor="tests").id


def finish() -> UUID:
    held = claimed(create().stage_id)
    lifecycle.finish_stage_if_held(held, TEXT, WORKER, next_token=None)
    return held.run_id


def release() -> UUID:
    held = claimed(create().stage_id)
    lifecycle.release_stage_if_held(held)
    return held.run_id


def rescue() -> UUID:
    held = claimed(create().stage_id)
    expire_leases()
    lifecycle.rescue_expired_leases()
    return held.run_id


def approve() -> UUID:
    created, digest = wait_for_approval()
    run_id = created.run.id
    lifecycle.approve_stage_if_waiting(run_id, "message", artifact_sha256=digest, content=None, note=None, actor="ann")
    return run_id


def request_changes() -> UUID:
    created, digest = wait_for_approval()
    run_id = created.run.id
    lifecycle.request_changes_if_waiting(run_id, "message", artifact_sha256=digest, feedback="shorter", actor="ann")
    return run_id


def fail_for_good() -> UUID:
    held = claimed(create().stage_id)
    assert lifecycle.fail_attempt_if_held(held, REFUSED, jitter=0) == "failed"
    return held.run_id


def retry() -> UUID:
    run_id = fail_for_good()
    lifecycle.retry_run_if_failed(run_id, from_stage=None, actor="ann")
    return run_id


def retry_many() -> UUID:
    run_id = fail_for_good()
    assert bulk.retry_matching(BulkFilter(status="failed"), actor="ops").changed == 1
    return run_id


def fork() -> UUID:
    parent = finish()
    return lifecycle.fork_run(parent, from_stage="calendar", request=None, actor="ann").id


@pytest.mark.parametrize("act", [create_it, finish, release, rescue, approve, request_changes, retry, retry_many, fork])
def test_every_path_that_makes_a_stage_due_tells_it_and_that_its_run_changed(
    heard: Heard, act: Callable[[], UUID]
) -> None:
    run_id = act()
    assert heard.due[-1] == queued_stage(run_id)
    assert heard.changed[-1] == run_id


def test_a_stage_that_its_finisher_claims_at_once_is_told_to_nobody(heard: Heard) -> None:
    held = claimed(create().stage_id)
    heard.clear()
    finished = lifecycle.finish_stage_if_held(held, TEXT, WORKER, next_token=uuid4())
    assert finished is not None
    assert finished.next is not None
    assert (heard.due, heard.changed) == ([], [held.run_id])


def test_a_stage_that_backs_off_is_not_told_to_be_due(heard: Heard) -> None:
    held = claimed(create().stage_id)
    heard.clear()
    assert lifecycle.fail_attempt_if_held(held, OVERLOADED, jitter=0) == "retrying"
    assert (heard.due, heard.changed) == ([], [held.run_id])


def test_a_batch_of_rescued_stages_tells_each(heard: Heard) -> None:
    stages = create_stages(3)
    for stage_id in stages:
        claimed(stage_id)
    expire_leases()
    heard.clear()
    lifecycle.rescue_expired_leases()
    assert set(heard.due) == set(stages)
    assert len(heard.changed) == 3


@pytest.fixture
def lose_the_answer(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Return what lets the server do the next COMMIT, and its answer get lost with the connection."""
    commit = database.commit

    def lose() -> None:
        def commit_and_lose() -> None:
            monkeypatch.undo()
            commit()
            database.connection().close()
            raise OperationalError("server closed the connection unexpectedly")

        monkeypatch.setattr(database, "commit", commit_and_lose)

    return lose


def lost_and_repeated(lose_the_answer: Callable[[], None], heard: Heard, act: Callable[[], object]) -> object:
    """Do something whose COMMIT is done and whose answer is lost, and repeat it; return what the repetition returns."""
    heard.clear()
    lose_the_answer()
    with pytest.raises(DatabaseUnavailable):
        act()
    assert (heard.due, heard.changed) == ([], [])
    return act()


def test_a_claim_found_to_have_been_ours_tells_that_the_run_has_started(
    heard: Heard, lose_the_answer: Callable[[], None]
) -> None:
    created, token = create(), uuid4()
    again = lost_and_repeated(
        lose_the_answer, heard, lambda: lifecycle.claim_stage(created.stage_id, WORKER, token=token)
    )
    assert isinstance(again, Claim)
    assert (heard.due, heard.changed) == ([], [created.run.id])
    assert types(created.run.id).count("stage.started") == 1


@pytest.mark.parametrize("carries_on", [False, True])
def test_a_finish_found_to_have_been_ours_tells_of_the_next_stage(
    heard: Heard, lose_the_answer: Callable[[], None], carries_on: bool
) -> None:
    held, token = claimed(create().stage_id), uuid4() if carries_on else None
    again = lost_and_repeated(
        lose_the_answer, heard, lambda: lifecycle.finish_stage_if_held(held, TEXT, WORKER, next_token=token)
    )
    assert isinstance(again, Finished)
    assert (again.next is not None) == carries_on
    assert heard.changed == [held.run_id]
    assert heard.due == ([] if carries_on else [queued_stage(held.run_id)])


def test_a_release_whose_answer_is_lost_tells_that_the_stage_is_due(
    heard: Heard, lose_the_answer: Callable[[], None]
) -> None:
    held = claimed(create().stage_id)
    lost_and_repeated(lose_the_answer, heard, lambda: lifecycle.release_stage_if_held(held))
    assert (heard.due, heard.changed) == ([held.stage_id], [held.run_id])
    assert types(held.run_id).count("stage.released") == 1


@pytest.mark.parametrize("failure", [OVERLOADED, REFUSED])
def test_a_failure_whose_answer_is_lost_tells_that_the_run_has_changed(
    heard: Heard, lose_the_answer: Callable[[], None], failure: Failure
) -> None:
    held = claimed(create().stage_id)
    lost_and_repeated(lose_the_answer, heard, lambda: lifecycle.fail_attempt_if_held(held, failure, jitter=0))
    assert (heard.due, heard.changed) == ([], [held.run_id])
    assert len(read("SELECT 1 AS found FROM events WHERE type IN ('stage.retry_scheduled', 'stage.failed')")) == 1


def test_a_connection_of_a_threads_own_has_a_unit_of_its_own(heard: Heard, database: str) -> None:
    with transaction():
        with (
            dedicated_connection(database, application_name="tests", statement_timeout_ms=3000),
            transaction(),
        ):
            stage_due.raise_after_commit(ID)
        assert heard.due == [ID]
        run_changed.raise_after_commit(ID)
        assert heard.changed == []
    assert heard.changed == [ID]


def test_events_are_told_with_their_rows_committed(heard: Heard) -> None:
    seen: list[int] = []

    def count(run_id: UUID) -> None:
        with transaction():
            seen.append(rows("SELECT count(*) AS n FROM events WHERE run_id = %(id)s", id=run_id)[0]["n"])

    with run_changed.connected(count):
        create_it()
    assert seen == [2]
