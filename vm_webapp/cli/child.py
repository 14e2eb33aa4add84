"""Child processes of ``serve``: restarted when they die, drained when the parent stops."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import sys
import time
from abc import ABC, abstractmethod
from asyncio.subprocess import PIPE, Process
from collections.abc import Callable, Sequence

from vm_webapp.ops.worker_start import EXIT_WRONG_CONFIGURATION, clear_start_error, start_error_file
from vm_webapp.settings import Settings

log = logging.getLogger(__name__)

FIRST_PAUSE_SECONDS = 0.5
LONGEST_PAUSE_SECONDS = 30.0
HEALTHY_SECONDS = 30.0
STOP_GRACE_SECONDS = 15.0
EXIT_NOT_MADE = 71  # EX_OSERR


class Child(ABC):
    """One child process that runs this program and is kept running.

    It must drain on SIGTERM, and at the end of its standard input, which means that the parent was killed.

    Args:
        name: the prefix of its events in the log.
        arguments: its command line after ``python -m vm_webapp``.
        log_level: its ``LOG_LEVEL``.
        drain_seconds: how long it may take to exit, in addition to a grace period; then it is killed.
        inherited: the file descriptors that it inherits.
        on_line: called with each line of its standard output; without it the child shares the parent's.
    """

    def __init__(
        self,
        name: str,
        arguments: Sequence[str],
        *,
        log_level: str,
        drain_seconds: float,
        inherited: Sequence[int] = (),
        on_line: Callable[[str], object] | None = None,
    ) -> None:
        self._name = name
        self._arguments = tuple(arguments)
        self._log_level = log_level
        self._drain_seconds = drain_seconds
        self._inherited = tuple(inherited)
        self._on_line = on_line
        self._process: Process | None = None
        self._stopping = asyncio.Event()

    @property
    def pid(self) -> int | None:
        """The process id, None while no process runs."""
        return self._process.pid if self._process else None

    async def keep_running(self) -> None:
        """Start the process, and restart it whenever it exits, until ``stop`` or until no restart is allowed."""
        while not self._stopping.is_set():
            began = time.monotonic()
            code = await self._run_once()
            if self._stopping.is_set():
                return
            pause = self._pause_after(code, time.monotonic() - began)
            if pause is None:
                return
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), pause)

    async def stop(self) -> None:
        """Drain the process; kill it if it does not exit in time."""
        self._stopping.set()
        process = self._process
        if process is None or process.returncode is not None:
            return
        # It may exit between the check above and the signal.
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(signal.SIGTERM)
        try:
            await asyncio.wait_for(process.wait(), self._drain_seconds + STOP_GRACE_SECONDS)
        except TimeoutError:
            process.kill()
            await process.wait()

    def kill(self) -> None:
        """Kill the process and do not restart it."""
        self._stopping.set()
        if self._process is not None and self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()

    @abstractmethod
    def _pause_after(self, code: int, lived_seconds: float) -> float | None:
        """Return the seconds to wait before a restart, None for no restart.

        Args:
            code: the exit code of the process.
            lived_seconds: how long the process lived.
        """

    async def _run_once(self) -> int:
        # The kernel closes the pipe on stdin even if this process is killed: the child reads its end, drains and exits.
        # In a session of its own the child does not get the terminal's Ctrl-C, so that the parent stops it in order.
        try:
            self._process = process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "vm_webapp", *self._arguments),
                stdin=PIPE,
                stdout=PIPE if self._on_line else None,
                start_new_session=True,
                pass_fds=self._inherited,
                env=os.environ | {"LOG_LEVEL": self._log_level},
            )
        except OSError as error:  # such as a lack of processes or memory, which may pass
            log.error(f"{self._name}.not_made", extra={"error": str(error)})  # noqa: TRY400 - the message is enough
            return EXIT_NOT_MADE
        if self._stopping.is_set():  # stop() came while the process was being created, and had nothing to signal
            process.terminate()
        try:
            if process.stdout is not None and self._on_line is not None:
                async for line in process.stdout:
                    self._on_line(line.decode(errors="replace").rstrip("\n"))
            return await process.wait()
        finally:
            self._process = None


class WorkerChild(Child):
    """A worker process; it is restarted with exponential backoff, which starts again after a process that lived."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(
            "worker",
            ("worker", "--until-stdin-closes", "--start-error-to", str(start_error_file(settings.workspace_root))),
            log_level=settings.log_level,
            drain_seconds=settings.drain_seconds,
        )
        self._start_error = start_error_file(settings.workspace_root)
        self._pause = FIRST_PAUSE_SECONDS

    async def keep_running(self) -> None:
        """Start the process, and restart it whenever it exits. Without the start error of a parent before this one."""
        # In a container every parent may have the same process id, so that the file would be taken for our worker's.
        clear_start_error(self._start_error)
        await super().keep_running()

    def _pause_after(self, code: int, lived_seconds: float) -> float | None:
        # A restart would read the same wrong configuration. The worker has printed what is wrong with it, and has left
        # it in a file for readiness and the doctor.
        if code == EXIT_WRONG_CONFIGURATION:
            log.error("worker.not_started")
            return None
        is_healthy = lived_seconds > HEALTHY_SECONDS
        self._pause = FIRST_PAUSE_SECONDS if is_healthy else min(self._pause * 2, LONGEST_PAUSE_SECONDS)
        log.warning("worker.died", extra={"exit_code": code, "restart_in_seconds": self._pause})
        return self._pause
