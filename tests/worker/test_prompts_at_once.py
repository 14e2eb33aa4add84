"""Few threads of a worker make prompts at the same time, and one that takes long holds up no other."""

from __future__ import annotations

import threading
import time
from typing import Any

import pytest

from tests.support.runs import create, wait_until_still
from tests.worker.conftest import StartWorker
from vm_webapp.execution import stage_runner
from vm_webapp.execution.stage_runner import PROMPTS_AT_ONCE
from vm_webapp.llm.base import Assignment
from vm_webapp.workflows.render import render_assignment

THREADS = 4 * PROMPTS_AT_ONCE


def test_many_stages_that_begin_at_once_make_their_prompts_by_turns(
    start_worker: StartWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock, at_once, most = threading.Lock(), 0, 0

    def render_slowly(*arguments: Any) -> Assignment:
        nonlocal at_once, most
        with lock:
            at_once += 1
            most = max(most, at_once)
        time.sleep(0.02)
        with lock:
            at_once -= 1
        return render_assignment(*arguments)

    monkeypatch.setattr(stage_runner, "render_assignment", render_slowly)
    runs = [create("content_calendar").run.id for _ in range(THREADS)]
    with start_worker(worker_threads=THREADS):
        assert {wait_until_still(run).status for run in runs} == {"completed"}
    assert most == PROMPTS_AT_ONCE


def test_prompts_that_take_long_hold_up_no_other(start_worker: StartWorker, monkeypatch: pytest.MonkeyPatch) -> None:
    rendering, goes_on = threading.Semaphore(0), threading.Event()

    def render(workflow: Any, spec: Any, context: Any) -> Assignment:
        if context.request == "long":
            rendering.release()
            assert goes_on.wait(20)
        return render_assignment(workflow, spec, context)

    monkeypatch.setattr(stage_runner, "render_assignment", render)
    monkeypatch.setattr(stage_runner, "LONGEST_WAIT_FOR_TURN_SECONDS", 0.1)
    stuck = [create("content_calendar", "long").run.id for _ in range(PROMPTS_AT_ONCE)]
    with start_worker(worker_threads=THREADS):
        for _ in stuck:
            assert rendering.acquire(timeout=10)
        assert wait_until_still(create("content_calendar").run.id).status == "completed"
        goes_on.set()
        assert {wait_until_still(run).status for run in stuck} == {"completed"}
