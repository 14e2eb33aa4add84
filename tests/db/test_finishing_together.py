"""Attempts that end at the same time are ended by one statement, and none of them suffers by another one."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from typing import Any
from uuid import uuid4

import pytest
from peewee import DataError

from tests.db.attempts import cancel, claimed
from tests.db.spending import CALL_TOKENS, USED
from tests.db.stages import create_stages, expire_leases
from tests.support.runs import create, read
from tests.support.waiting import eventually
from vm_webapp.db.pool import execute, rows, transaction
from vm_webapp.execution import finishing
from vm_webapp.execution.finishing import FinishTogether
from vm_webapp.llm.base import Completion
from vm_webapp.runs import lifecycle
from vm_webapp.runs.budget import Budget
from vm_webapp.runs.lifecycle import Claim, Claimant, Ending, Finished
from vm_webapp.usage.calls import CallUsage

pytestmark = pytest.mark.usefixtures("database")
WORKER = Claimant(uuid4(), "kimi")
TEXT = Completion("# A document", "kimi")


class Gate:
    """Holds the first statement back, and the outcome of the second; notes how many attempts each was to end."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.groups: list[int] = []
        self.opened = threading.Event()
        self.answered = threading.Event()
        self.answered.set()
        self._finish: Callable[..., Any] = lifecycle.finish_free_stages
        monkeypatch.setattr(lifecycle, "finish_free_stages", self.finish_free_stages)

    def finish_free_stages(self, endings: list[Ending], claimant: Claimant) -> Any:
        self.groups.append(len(endings))
        if len(self.groups) == 1:
            assert self.opened.wait(20)
        second = len(self.groups) == 2
        done = self._finish(endings, claimant)
        assert not second or self.answered.wait(20)
        return done


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch) -> Gate:
    monkeypatch.setattr(finishing, "PATIENCE_SECONDS", 60.0)
    return Gate(monkeypatch)


def read_status(claim: Claim) -> str:
    """Return the state of a claim's run."""
    (found,) = read("SELECT status FROM runs WHERE id = %(id)s", id=claim.run_id)
    return str(found["status"])


def claims(count: int) -> list[Claim]:
    create_stages(count)
    return list(lifecycle.claim_due_stages(WORKER, [uuid4() for _ in range(count)]).claims)


@contextmanager
def ending(
    held: list[Claim], gate: Gate, texts: dict[int, Completion], usage: CallUsage | None = None
) -> Iterator[list[Future[Finished | None]]]:
    """End attempts, all but the first together; open the gate once they wait, and yield what becomes of them."""
    together = FinishTogether(WORKER)
    with ThreadPoolExecutor(len(held)) as threads:
        results = []
        for number, claim in enumerate(held):
            end = Ending(claim, texts.get(number, TEXT), uuid4(), usage)
            results.append(threads.submit(together.finish, end))
            eventually(lambda: gate.groups, "the first one is on its way")
        eventually(lambda: len(together._waiting) == len(held) - 1, "the others wait")
        gate.opened.set()
        yield results


def test_attempts_that_wait_are_ended_by_one_statement(gate: Gate) -> None:
    with ending(claims(5), gate, {}) as results:
        finished = [each.result(20) for each in results]
    assert gate.groups == [1, 4]
    assert all(each is not None and each.version == 1 for each in finished)
    following = [each.next for each in finished if each is not None]
    assert len({each.run_id for each in following if each is not None}) == 5, "each carries its own run on"


def test_each_run_tells_its_own_story(gate: Gate) -> None:
    held = claims(4)
    with ending(held, gate, {}) as results:
        assert all(each.result(20) for each in results)
    for claim in held:
        told = read("SELECT type FROM events WHERE run_id = %(id)s ORDER BY id", id=claim.run_id)
        assert [each["type"] for each in told][-3:] == ["stage.completed", "stage.queued", "stage.started"]


def test_a_text_that_cannot_be_stored_fails_alone(gate: Gate) -> None:
    with ending(claims(4), gate, {2: Completion("\0", "kimi")}) as results:
        assert isinstance(results.pop(2).exception(20), DataError)
        assert all(each.result(20) for each in results)


def test_a_lost_attempt_writes_nothing(gate: Gate) -> None:
    held = claims(4)
    lost = held[3]
    assert lifecycle.release_stage_if_held(lost)
    with ending(held, gate, {}) as results:
        assert results[3].result(20) is None
        assert all(each.result(20) for each in results[:3])
    assert not read("SELECT 1 FROM artifacts WHERE attempt_token = %(token)s", token=lost.token)


def test_each_of_a_group_has_a_fate_of_its_own(gate: Gate) -> None:
    created = [
        create("plan_90d", auto_approve=True),
        create("landing_page"),
        create("plan_90d", auto_approve=True, budget=Budget(tokens=CALL_TOKENS)),
        create("smoke"),
        create("plan_90d", auto_approve=True),
        create("plan_90d", auto_approve=True),
    ]
    held = [claimed(each.stage_id) for each in created]
    cancel(held[4])
    with ending(held, gate, {}, USED) as results:
        ended = [each.result(20) for each in results]
    assert gate.groups == [1, 5]
    assert [read_status(claim) for claim in held] == [
        *("running", "waiting_approval", "failed", "completed", "canceled", "running")
    ]
    going_on = [number for number, each in enumerate(ended) if each is not None and each.next is not None]
    assert (going_on, ended[4]) == ([0, 5], None)


def test_an_attempt_whose_run_is_locked_delays_no_other(gate: Gate) -> None:
    held = claims(4)
    with ExitStack() as lock:
        lock.enter_context(transaction())
        execute("SELECT 1 FROM runs WHERE id = %(id)s FOR UPDATE", id=held[2].run_id)
        with ending(held, gate, {}) as results:
            assert all(results[number].result(20) for number in (0, 1, 3))
            assert not results[2].done()
            lock.close()
            assert results[2].result(20)


def test_nobody_waits_long_for_a_statement_that_hangs(gate: Gate, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(finishing, "PATIENCE_SECONDS", 0.05)
    first, second = claims(2)
    together = FinishTogether(WORKER)
    with ThreadPoolExecutor(1) as thread:
        hangs = thread.submit(together.finish, Ending(first, TEXT, next_token=None))
        eventually(lambda: gate.groups, "the first one is on its way")
        assert together.finish(Ending(second, TEXT, next_token=None))
        assert not hangs.done()
        gate.opened.set()
        assert hangs.result(20)
    assert not together._waiting


def test_an_attempt_that_is_being_ended_waits_for_the_outcome(gate: Gate, monkeypatch: pytest.MonkeyPatch) -> None:
    """Meanwhile its next stage is claimed, and the lease of a claim that nobody knows of would not be renewed."""
    monkeypatch.setattr(finishing, "PATIENCE_SECONDS", 0.3)
    alone: list[Claim] = []
    finish = lifecycle.finish_stage_if_held

    def finish_alone(claim: Claim, *arguments: Any, **options: Any) -> Finished | None:
        alone.append(claim)
        return finish(claim, *arguments, **options)

    monkeypatch.setattr(lifecycle, "finish_stage_if_held", finish_alone)
    gate.answered.clear()
    with ending(claims(4), gate, {}) as results:
        eventually(lambda: len(gate.groups) == 2, "the others are being ended")
        with pytest.raises(TimeoutError):
            results[3].result(1)
        gate.answered.set()
        ended = [each.result(20) for each in results]
    assert (gate.groups, alone) == ([1, 3], [])
    assert all(each is not None and each.next is not None for each in ended)


def test_an_expired_lease_that_nobody_took_is_finished(gate: Gate) -> None:
    (held,) = claims(1)
    expire_leases()
    gate.opened.set()
    assert FinishTogether(WORKER).finish(Ending(held, TEXT, next_token=None))


def test_a_lone_end_is_not_planned_anew_each_time(gate: Gate) -> None:
    gate.opened.set()
    held, together = claims(8), FinishTogether(WORKER)
    for claim in held:
        assert together.finish(Ending(claim, TEXT, next_token=None))
    with transaction():
        (plans,) = rows(
            "SELECT generic_plans, custom_plans FROM pg_prepared_statements"
            " WHERE statement LIKE '%json_to_recordset%' AND statement LIKE '%INSERT INTO artifacts%'"
        )
    assert plans == {"generic_plans": 8, "custom_plans": 0}
