"""What a worker writes of its model calls, however they end."""

from __future__ import annotations

import threading
from decimal import Decimal
from typing import Any

import pytest

from actors.duties.sum_usage import SumUsage
from tests.fakes.behaviours import Behaviour, dropped, refusal, stalled
from tests.fakes.model_server import ModelServer
from tests.support.runs import create, read, wait_until_still
from tests.support.waiting import eventually
from tests.worker.conftest import StartWorker, kimi, runtime
from vm_webapp.access.actor import Actor
from vm_webapp.errors import DatabaseUnavailable
from vm_webapp.execution import prompt_inputs, stage_runner
from vm_webapp.execution.finishing import FinishTogether
from vm_webapp.execution.metering import CallMeter
from vm_webapp.prices import Price, PriceTable
from vm_webapp.runs import lifecycle, queries

PRICES = PriceTable("USD", {"kimi-for-coding": Price(Decimal(1), Decimal(10), Decimal("0.1"))})


@pytest.fixture(autouse=True)
def _unsummed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave the calls where they are written."""
    monkeypatch.setattr(SumUsage, "run_once", lambda duty: False)


@pytest.fixture
def has_sent(monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """Set once a model has sent text."""
    sent, add = threading.Event(), CallMeter.add

    def note(meter: CallMeter, text: str) -> None:
        add(meter, text)
        if text:
            sent.set()

    monkeypatch.setattr(CallMeter, "add", note)
    return sent


def calls() -> list[dict[str, Any]]:
    """Return the calls that no day has yet."""
    return read("SELECT * FROM unsummed_calls ORDER BY id")


def one_call() -> dict[str, Any]:
    """Wait until there is a call, and return it."""
    (call,) = eventually(calls, "the call is written")
    return call


def test_a_call_is_written_as_the_server_counted_it_under_the_name_that_was_asked_for(
    start_worker: StartWorker, model: ModelServer
) -> None:
    counts: dict[str, Any] = {"prompt_tokens": 1_000, "completion_tokens": 200, "cached_tokens": 600}
    model.enqueue(*[Behaviour(model="kimi-k2-0905", usage=counts)] * 2)
    with start_worker(**kimi(model, model_prices=PRICES)):
        run = wait_until_still(create("content_calendar").run.id)
    assert run.status == "completed"
    assert len(calls()) == 2
    for call in calls():
        assert (call["model"], call["workflow"]) == ("kimi-for-coding", "content_calendar")
        assert (call["prompt_tokens"], call["completion_tokens"]) == (1_000, 200)
        assert (call["money"], call["estimated"]) == (Decimal("0.00246"), False)
    assert run.cost is not None
    assert run.cost.money == Decimal("0.00492")


@pytest.mark.parametrize(
    "behaviour",
    [Behaviour(usage={}), dropped(3), Behaviour(finish_reason="abort", usage={})],
    ids=["completed", "broke off", "interrupted"],
)
def test_a_server_that_sends_no_usage_is_estimated(
    start_worker: StartWorker, model: ModelServer, behaviour: Behaviour
) -> None:
    model.enqueue(behaviour)
    model.script = lambda body: refusal(400, "invalid_request_error", "no more")
    with start_worker(**kimi(model)):
        wait_until_still(create("content_calendar").run.id)
    (call,) = calls()  # those that were refused are none
    assert call["estimated"]
    assert call["prompt_tokens"] > 500  # the prompts of the bundled workflows are long
    assert call["completion_tokens"] >= 3
    assert call["money"] is None


def test_a_canceled_call_counts_what_had_arrived(
    start_worker: StartWorker, model: ModelServer, has_sent: threading.Event
) -> None:
    model.enqueue(stalled())
    with start_worker(**kimi(model, model_prices=PRICES)):
        run_id = create("content_calendar").run.id
        assert has_sent.wait(5)
        lifecycle.cancel_run_if_open(run_id, actor=Actor("ann"))
        call = one_call()
    assert call["estimated"]
    run = queries.get_run(run_id)
    assert (run.status, run.cost) == ("canceled", run.stages[0].cost)
    assert run.cost is not None
    assert (run.cost.money, run.cost.estimated) == (call["money"], True)


def test_a_call_that_a_drain_abandons_counts_once(
    start_worker: StartWorker, model: ModelServer, has_sent: threading.Event
) -> None:
    model.enqueue(stalled())
    with start_worker(**kimi(model, drain_seconds=0.1)):
        run_id = create("content_calendar").run.id
        assert has_sent.wait(5)
    assert one_call()["estimated"]
    assert queries.get_run(run_id).status == "running"
    assert read("SELECT releases FROM stages WHERE position = 1") == [{"releases": 1}]


def test_a_release_that_may_have_succeeded_unseen_is_not_counted_again(
    start_worker: StartWorker, model: ModelServer, has_sent: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    release, tried = lifecycle.release_stage_if_held, list[bool]()

    def lose_the_result(*arguments: Any, **options: Any) -> bool:
        tried.append(release(*arguments, **options))
        if len(tried) == 1:
            raise DatabaseUnavailable("the connection broke after the COMMIT")
        return tried[-1]

    monkeypatch.setattr(lifecycle, "release_stage_if_held", lose_the_result)
    model.enqueue(stalled())
    with start_worker(**kimi(model, drain_seconds=0.1)):
        create("content_calendar")
        assert has_sent.wait(5)
        runtime().runner.draining.set()
    assert tried == [True, False]
    assert len(calls()) == 1


def test_a_crash_after_the_stage_has_finished_counts_its_call_once(
    start_worker: StartWorker, model: ModelServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    finish, crashed = FinishTogether.finish, threading.Event()

    def crash_at_the_end(*arguments: Any, **options: Any) -> Any:
        finished = finish(*arguments, **options)
        if finished is not None and finished.next is None:
            crashed.set()
            raise RuntimeError("after the COMMIT")
        return finished

    monkeypatch.setattr(FinishTogether, "finish", crash_at_the_end)
    with start_worker(**kimi(model, model_prices=PRICES)):
        run = wait_until_still(create("content_calendar").run.id)
        assert crashed.wait(5)
    assert run.status == "completed"
    assert len(calls()) == 2


def test_a_canceled_call_counts_although_its_inputs_were_read_through_an_outage(
    start_worker: StartWorker, model: ModelServer, has_sent: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    read_inputs, tried = prompt_inputs.read_context, list[None]()

    def fail_once(*arguments: Any) -> Any:
        tried.append(None)
        if len(tried) == 1:
            raise DatabaseUnavailable("the connection broke")
        return read_inputs(*arguments)

    monkeypatch.setattr(stage_runner, "read_context", fail_once)
    model.enqueue(stalled())
    with start_worker(**kimi(model)):
        run_id = create("content_calendar").run.id
        assert has_sent.wait(10)
        lifecycle.cancel_run_if_open(run_id, actor=Actor("ann"))
        one_call()
    assert len(tried) == 2


def test_the_offline_provider_and_a_silent_server_use_nothing(start_worker: StartWorker, model: ModelServer) -> None:
    with start_worker():
        assert wait_until_still(create("content_calendar").run.id).status == "completed"
    model.enqueue(Behaviour(silent=True))
    with start_worker(**kimi(model, drain_seconds=0.1)):
        create("content_calendar")
        model.wait_until(lambda server: server.in_flight == 1)
    assert calls() == []
