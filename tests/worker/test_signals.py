"""Copies of a signal, which a process group causes, do not reach the handler."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from types import FrameType

import pytest

from actors import process_signals as signals
from actors.process_signals import ignore_echoes

# Signals that pytest does not handle.
TERM, HANGUP = signal.SIGUSR1, signal.SIGUSR2


@pytest.fixture
def received() -> Iterator[list[int]]:
    """Return the signals that reached their handler."""
    reached: list[int] = []

    def handle(number: int, frame: FrameType | None) -> None:
        reached.append(number)

    before = {number: signal.signal(number, handle) for number in (TERM, HANGUP)}
    yield reached
    for number, handler in before.items():
        signal.signal(number, handler)


def test_only_the_first_of_several_signals_reaches_its_handler(received: list[int]) -> None:
    ignore_echoes(TERM, HANGUP)
    for number in (TERM, TERM, HANGUP):
        signal.raise_signal(number)
    assert received == [TERM]


def test_a_later_signal_reaches_its_handler(received: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(signals, "SAME_SIGNAL_SECONDS", 0.0)
    ignore_echoes(TERM, HANGUP)
    signal.raise_signal(TERM)
    signal.raise_signal(HANGUP)
    assert received == [TERM, HANGUP]


def test_outside_the_main_thread_and_without_a_handler_nothing_changes(received: list[int]) -> None:
    installed = signal.getsignal(TERM)
    elsewhere = threading.Thread(target=ignore_echoes, args=(TERM,))
    elsewhere.start()
    elsewhere.join(5)
    assert signal.getsignal(TERM) is installed
    signal.signal(HANGUP, signal.SIG_IGN)
    ignore_echoes(HANGUP)
    assert signal.getsignal(HANGUP) is signal.SIG_IGN
