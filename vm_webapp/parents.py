"""The parents of a service: it drains when one of them ends, such as the shell of its start command.

A platform may start a service by a shell that waits for it, and send SIGTERM to that shell only. The shell dies, ``uv
run`` and the service below it hear nothing, and would run on for ever. So a service remembers its parents.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

log = logging.getLogger(__name__)

CHECK_SECONDS = 1.0


@dataclass(frozen=True)
class Parent:
    """A process above this one."""

    pid: int
    command: str

    def __str__(self) -> str:
        return f"{self.command} (pid {self.pid})"


class Parents:
    """The parents of this process within its session, the nearest first.

    Args:
        recorded: as they were when the process started.
    """

    def __init__(self, recorded: tuple[Parent, ...] = ()) -> None:
        self.recorded = recorded

    def find_ended(self) -> str:
        """Return which parent has ended, empty when all of them live."""
        pid = os.getpid()
        for parent in self.recorded:
            try:
                above = _read_stat(pid).parent
            except OSError:  # it has just ended, which the next look sees, or nothing can be read now
                return ""
            # A process gets another parent at the moment its own ends, and only then. Its parent lives as long as the
            # number is the same, so that a number that is used again cannot be mistaken for it.
            if above != parent.pid:
                return str(parent)
            pid = above
        return ""


def record_parents() -> Parents:
    """Return the parents of this process that it should not outlive; elsewhere than on Linux none.

    None either with a controlling terminal, or when ``nohup`` started it: then somebody may have put it into the
    background to outlive its shell. Above the session nothing counts, so ``setsid`` and daemons that leave the session
    of their parents outlive these as well.
    """
    if sys.platform != "linux":
        return Parents()
    try:
        own = _read_stat(os.getpid())
        if own.parent != os.getppid():  # of another process: /proc belongs to another process namespace
            return Parents()
        recorded = () if own.has_terminal else tuple(_parents_of(own))
        return Parents() if recorded and _is_nohup(recorded[-1].pid) else Parents(recorded)
    except (OSError, ValueError):  # /proc is missing, or has less in it than Linux
        return Parents()


def drain_without(parents: Parents, *, unless: Callable[[], bool]) -> None:
    """Send this process SIGTERM once a parent has ended; a thread looks once a second.

    Args:
        parents: recorded when the process started.
        unless: returns whether the process is stopping already. Another SIGTERM would end a worker at once.
    """
    if parents.recorded:
        log.info("parents.watched", extra={"parents": [str(parent) for parent in parents.recorded]})
        threading.Thread(target=_watch, args=(parents, unless), name="parents", daemon=True).start()


def _watch(parents: Parents, unless: Callable[[], bool]) -> None:
    while not (ended := parents.find_ended()):
        time.sleep(CHECK_SECONDS)
    if not unless():
        log.warning("parents.ended", extra={"parent": ended})
        os.kill(os.getpid(), signal.SIGTERM)


@dataclass(frozen=True)
class _Stat:
    command: str
    parent: int
    session: int
    has_terminal: bool


def _read_stat(pid: int) -> _Stat:
    # proc_pid_stat(5). The command may contain spaces and brackets.
    before, after = Path(f"/proc/{pid}/stat").read_text(errors="replace").rsplit(")", 1)
    _, parent, _, session, terminal, *_ = after.split()
    return _Stat(before.split("(", 1)[1], int(parent), int(session), terminal != "0")


def _parents_of(process: _Stat) -> list[Parent]:
    found: list[Parent] = []
    session = process.session
    while pid := process.parent:
        try:
            process = _read_stat(pid)
        except OSError:  # it has just ended, or belongs to another user and is hidden
            break
        if process.session != session:
            break
        found.append(Parent(pid, process.command))
    return found


def _is_nohup(outermost: int) -> bool:
    """Return whether this process ignores SIGHUP and the outermost of its parents does not."""
    # Where that one ignores it as well, everything that the platform starts does: it says nothing about this process.
    return signal.getsignal(signal.SIGHUP) == signal.SIG_IGN and not _ignores_hangups(outermost)


def _ignores_hangups(pid: int) -> bool:
    for line in Path(f"/proc/{pid}/status").read_text(errors="replace").splitlines():
        if line.startswith("SigIgn:"):
            return bool(int(line.split()[1], 16) >> (signal.SIGHUP - 1) & 1)
    return False
