"""A loop survives errors, can be woken, ends on request, and starts only once."""

from __future__ import annotations

import logging
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest
from peewee import DatabaseError

from tests.support.waiting import eventually
from vm_webapp.errors import DatabaseUnavailable
from vm_webapp.loops import Loop, noting_outages

NEVER = 3600.0


def threads(name: str) -> int:
    """Return how many threads of this name live."""
    return sum(thread.name == name for thread in threading.enumerate())


def test_it_calls_again_and_again_whatever_the_function_raises(caplog: pytest.LogCaptureFixture) -> None:
    calls: list[int] = []

    def fail() -> None:
        calls.append(1)
        raise RuntimeError("a full disk")

    loop = Loop("tested", fail, every_seconds=0.001)
    loop.start()
    eventually(lambda: len(calls) >= 3, "three calls")
    loop.stop(5)
    assert threads("tested") == 0
    assert caplog.messages[0] == "loop.failed"


def test_a_wake_brings_the_next_call_forward_also_one_that_comes_during_a_call() -> None:
    calls, go_on = [], threading.Semaphore(0)

    def work() -> None:
        calls.append(1)
        assert go_on.acquire(timeout=10)

    loop = Loop("tested", work, every_seconds=NEVER)
    loop.start()
    eventually(lambda: len(calls) == 1, "the first call")
    loop.wake()
    go_on.release()
    eventually(lambda: len(calls) == 2, "the second call")
    go_on.release()
    loop.wake()
    eventually(lambda: len(calls) == 3, "the third call")
    go_on.release()
    loop.stop(5)
    assert len(calls) == 3


@pytest.mark.parametrize("once_more", [False, True])
def test_it_ends_after_the_call_under_way_or_after_one_more(once_more: bool) -> None:
    calls: list[str] = []
    state = ["working"]
    loop = Loop("tested", lambda: calls.append(state[0]), every_seconds=NEVER)
    loop.start()
    eventually(lambda: calls, "the first call")
    state[0] = "stopped"
    loop.stop(5, once_more=once_more)
    assert calls == (["working", "stopped"] if once_more else ["working"])
    assert threads("tested") == 0


def test_a_call_that_hangs_is_waited_for_no_longer_than_asked() -> None:
    go_on = threading.Event()
    loop = Loop("tested", lambda: go_on.wait(10), every_seconds=NEVER)
    loop.start()
    loop.stop(0.01)
    assert threads("tested") == 1
    go_on.set()
    eventually(lambda: not threads("tested"), "the thread ends")


def test_concurrent_starts_start_one_thread() -> None:
    loop = Loop("tested", lambda: None, every_seconds=NEVER)
    with ThreadPoolExecutor(8) as pool:
        for _ in range(8):
            pool.submit(loop.start)
    assert threads("tested") == 1
    loop.stop(5)


def test_a_stopped_loop_refuses_to_start_again() -> None:
    loop = Loop("tested", lambda: None, every_seconds=NEVER)
    loop.start()
    loop.stop(5)
    with pytest.raises(AssertionError, match="the loop tested was stopped"):
        loop.start()


def test_what_surrounds_the_calls_is_on_their_thread_and_ends_with_them() -> None:
    seen: list[tuple[str, str]] = []

    def note(what: str) -> None:
        seen.append((what, threading.current_thread().name))

    @contextmanager
    def around() -> Iterator[None]:
        note("opened")
        yield
        note("closed")

    loop = Loop("tested", lambda: note("called"), every_seconds=NEVER, around=around)
    loop.start()
    eventually(lambda: len(seen) == 2, "the first call")
    loop.stop(5)
    assert seen == [(what, "tested") for what in ("opened", "called", "closed")]


FORKING = """
import os, threading, warnings
from vm_webapp.loops import Loop

warnings.simplefilter("ignore")  # about forks of processes that have threads, which is what this is about
loop = Loop("tested", lambda: None, every_seconds=3600)
loop.start()
child = os.fork()
loop.start()
own = sum(thread.name == "tested" for thread in threading.enumerate())
if child:
    raise SystemExit(own != 1 or os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
os._exit(own != 1)
"""


def test_a_forked_process_starts_a_thread_of_its_own() -> None:
    assert subprocess.run([sys.executable, "-c", FORKING], timeout=30, check=False).returncode == 0


def test_an_outage_of_the_database_is_logged_when_it_begins(caplog: pytest.LogCaptureFixture) -> None:
    down = DatabaseUnavailable
    outcomes: list[Exception | None] = [None, down("a"), DatabaseError("b"), None, down("c")]

    def call() -> None:
        if (error := outcomes.pop(0)) is not None:
            raise error

    run = noting_outages(call, logging.getLogger(__name__), "work.undone")
    while outcomes:
        run()
    said = [(each.message, each.__dict__["error"][0]) for each in caplog.records]
    assert said == [("work.undone", "a"), ("work.undone", "c")]
    outcomes.append(ValueError("a defect"))
    with pytest.raises(ValueError, match="a defect"):
        run()
