"""The end of an unhealthy worker: it does not wait for calls that cannot end, and its exit code is not 0."""

from __future__ import annotations

import os
import time

import pytest

from actors import middleware
from tests.fakes.behaviours import Behaviour
from tests.fakes.model_server import ModelServer
from tests.fakes.providers import stop_loop
from tests.support.runs import create, types
from tests.support.waiting import eventually
from tests.worker.conftest import StartWorker, let_one_thread_die, runtime


@pytest.fixture(autouse=True)
def asked(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The signals that the process would have sent to itself."""
    sent: list[int] = []
    monkeypatch.setattr(os, "kill", lambda pid, number: sent.append(number))
    return sent


def test_stages_whose_calls_can_never_end_are_released_without_a_wait(
    start_worker: StartWorker, asked: list[int]
) -> None:
    with ModelServer() as model:
        model.enqueue(Behaviour(silent=True))
        kimi = {"kimi_api_key": "sk-test-key", "kimi_base_url": model.base_url}
        with start_worker(drain_seconds=30, **kimi):
            run_id = create("content_calendar").run.id
            model.wait_until(lambda server: server.in_flight == 1)
            stop_loop(runtime().calls)
            eventually(lambda: asked, "the process asks itself to end")
            began = time.monotonic()
        assert time.monotonic() - began < 10
    assert types(run_id)[-1] == "stage.released"


def test_the_stock_command_exits_with_1_when_a_thread_has_died(start_worker: StartWorker, asked: list[int]) -> None:
    with start_worker() as worker:
        let_one_thread_die(worker)
        eventually(lambda: asked, "the process asks itself to end")
        middleware.configure(None, poll_seconds=0.5)  # the stock command never calls configure
        with pytest.raises(SystemExit) as ended:
            worker.stop()
    assert ended.value.code == 1
    assert not middleware.booted
