"""The worker that ``serve`` keeps: it stops whenever it is asked to."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path

import pytest

from vm_webapp.cli.child import WorkerChild
from vm_webapp.settings import Settings


async def until(child: WorkerChild, *, running: bool) -> None:
    """Return when there is a worker process, or when there is none."""
    while (child.pid is not None) != running:
        await asyncio.sleep(0.01)


async def test_a_stop_during_the_creation_of_the_process_is_honoured(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("VM_DB_URL", "postgresql://nobody@127.0.0.1:1/nothing")
    monkeypatch.setenv("VM_WORKSPACE_ROOT", str(tmp_path))
    child = WorkerChild(Settings())
    keeping = asyncio.create_task(child.keep_running())
    await asyncio.sleep(0)  # the process is being made, and there is none to signal yet
    assert child.pid is None
    await child.stop()
    async with asyncio.timeout(10):
        await keeping


async def test_a_process_that_cannot_be_created_is_retried(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    tries = asyncio.Semaphore(0)

    async def refuse(*_: object, **__: object) -> None:
        tries.release()
        raise OSError(11, "Resource temporarily unavailable")

    monkeypatch.setattr("vm_webapp.cli.child.FIRST_PAUSE_SECONDS", 0.01)
    monkeypatch.setattr(asyncio, "create_subprocess_exec", refuse)
    child = WorkerChild(Settings())
    keeping = asyncio.create_task(child.keep_running())
    async with asyncio.timeout(10):
        for _ in range(3):
            await tries.acquire()
        await child.stop()
        await keeping
    assert "worker.not_made" in caplog.messages


async def test_a_stop_between_two_workers_does_not_wait_for_the_next(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("vm_webapp.cli.child.FIRST_PAUSE_SECONDS", 60.0)
    monkeypatch.setattr("vm_webapp.cli.child.LONGEST_PAUSE_SECONDS", 60.0)
    monkeypatch.setenv("VM_DB_URL", "postgresql://nobody@127.0.0.1:1/nothing")
    monkeypatch.setenv("VM_WORKSPACE_ROOT", str(tmp_path))
    child = WorkerChild(Settings())
    keeping = asyncio.create_task(child.keep_running())
    async with asyncio.timeout(20):
        await until(child, running=True)
        assert child.pid is not None
        os.kill(child.pid, signal.SIGKILL)
        await until(child, running=False)
        await child.stop()
        await keeping
