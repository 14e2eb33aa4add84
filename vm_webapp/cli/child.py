"""The worker that ``serve`` keeps as a child process: started again when it dies, drained when we stop."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import sys
import time
from asyncio.subprocess import PIPE, Process

from vm_webapp.settings import Settings

log = logging.getLogger(__name__)

FIRST_PAUSE_SECONDS = 0.5
LONGEST_PAUSE_SECONDS = 30.0
HEALTHY_SECONDS = 30.0
STOP_GRACE_SECONDS = 15.0
EXIT_WRONG_CONFIGURATION = 2
EXIT_NOT_MADE = 71  # EX_OSERR


class WorkerChild:
    """One worker process, kept running."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._process: Process | None = None
        self._stopping = asyncio.Event()

    @property
    def pid(self) -> int | None:
        """The worker's process id, None between two of them."""
        return self._process.pid if self._process else None

    async def keep_running(self) -> None:
        """Start the worker and start it again whenever it ends, sooner the longer it lived."""
        pause = FIRST_PAUSE_SECONDS
        while not self._stopping.is_set():
            began = time.monotonic()
            code = await self._run_once()
            if self._stopping.is_set():
                return
            if code == EXIT_WRONG_CONFIGURATION:
                log.error("worker.not_started")
                return
            pause = (
                FIRST_PAUSE_SECONDS
                if time.monotonic() - began > HEALTHY_SECONDS
                else min(pause * 2, LONGEST_PAUSE_SECONDS)
            )
            log.warning("worker.died", extra={"exit_code": code, "restart_in_seconds": pause})
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), pause)

    async def stop(self) -> None:
        """Let the worker drain; kill it when it does not end."""
        self._stopping.set()
        process = self._process
        if process is None or process.returncode is not None:
            return
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(signal.SIGTERM)
        try:
            await asyncio.wait_for(process.wait(), self._settings.drain_seconds + STOP_GRACE_SECONDS)
        except TimeoutError:
            process.kill()
            await process.wait()

    async def _run_once(self) -> int:
        # The open pipe tells the worker that we live: when we are killed it ends, and the worker drains and goes.
        # A session of its own keeps the terminal's Ctrl-C away from it, so that we stop it in the right order.
        try:
            self._process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "vm_webapp", "worker", "--until-stdin-closes"),
                stdin=PIPE,
                start_new_session=True,
                env=os.environ | {"LOG_LEVEL": self._settings.log_level},
            )
        except OSError as error:  # such as no more processes or memory: it may be better in a moment
            log.error("worker.not_made", extra={"error": str(error)})  # noqa: TRY400 - one line says it
            return EXIT_NOT_MADE
        if self._stopping.is_set():  # asked to stop while the process was being made, when there was nothing to signal
            self._process.terminate()
        try:
            return await self._process.wait()
        finally:
            self._process = None
