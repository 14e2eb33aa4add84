"""Errors of an asyncio loop outside every caller: one line each, without the exception's text or what it was about."""

from __future__ import annotations

import asyncio
import errno
import gc
import logging
from typing import Any

import pytest

from vm_webapp.loop_errors import INCIDENT_SECONDS, LoopErrors

SECRET = "s3cret-t0ken"
ACCEPT = {
    "message": "socket.accept() out of system resource",
    "exception": OSError(errno.EMFILE, "Too many open files"),
}


@pytest.fixture(autouse=True)
async def _handled() -> None:
    asyncio.get_running_loop().set_exception_handler(LoopErrors())


def only_line(caplog: pytest.LogCaptureFixture) -> dict[str, Any]:
    """Return the only line, in which there is no secret."""
    (record,) = caplog.records
    assert SECRET not in repr(vars(record))
    assert SECRET not in logging.Formatter().format(record)
    return vars(record)


async def test_an_exception_of_a_task_that_nobody_awaits_is_logged_without_its_text(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def fail(token: str) -> None:
        raise RuntimeError(token)

    gc.disable()  # it stays among the youngest objects, which are the only ones that are looked at
    asyncio.create_task(fail(SECRET), name="a-task")  # noqa: RUF006 - that nobody keeps it is the point
    await asyncio.sleep(0.01)
    gc.collect(0)
    gc.enable()
    line = only_line(caplog)
    assert (line["msg"], line["what"]) == ("loop.error", "Task exception was never retrieved")
    assert (line["error"], line["task"]) == ("RuntimeError", "a-task")
    assert "test_loop_errors.py" in line["at"]


async def test_an_exception_of_a_callback_is_logged_without_its_arguments(caplog: pytest.LogCaptureFixture) -> None:
    def fail(token: str) -> None:
        raise ValueError(token)

    asyncio.get_running_loop().call_soon(fail, SECRET)
    await asyncio.sleep(0.01)
    line = only_line(caplog)
    assert line["what"].startswith("Exception in callback test_an_exception_of_a_callback")
    assert (line["error"], line["task"]) == ("ValueError", None)


def test_accept_failures_are_one_incident_until_a_quiet_minute(caplog: pytest.LogCaptureFixture) -> None:
    loop, handler = asyncio.new_event_loop(), LoopErrors()
    moment = 1000.0
    loop.time = lambda: moment  # type: ignore[method-assign]
    for _ in range(500):
        moment += INCIDENT_SECONDS - 1
        handler(loop, ACCEPT)
    assert only_line(caplog)["error"] == "Too many open files"
    moment += INCIDENT_SECONDS + 1
    handler(loop, ACCEPT)
    handler(loop, ACCEPT)
    loop.close()
    assert [record.msg for record in caplog.records] == ["accept.failed"] * 2


async def test_another_os_error_is_a_line_of_its_own(caplog: pytest.LogCaptureFixture) -> None:
    loop = asyncio.get_running_loop()
    for _ in range(2):
        loop.call_exception_handler(
            {"message": f"Fatal error on transport <{SECRET}>", "exception": OSError(5, SECRET)}
        )
    assert [record.__dict__["what"] for record in caplog.records] == ["Fatal error on transport"] * 2
    assert SECRET not in repr([vars(record) for record in caplog.records])
