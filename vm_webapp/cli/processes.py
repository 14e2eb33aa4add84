"""``serve`` with several API processes: this parent listens, and keeps them and the worker; it serves no request."""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import signal
import socket
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import ExitStack

from vm_webapp.cli.child import EXIT_NOT_MADE, Child, WorkerChild
from vm_webapp.cli.output import announce
from vm_webapp.errors import ConfigurationError, VMError
from vm_webapp.listening import FINISH_SECONDS, close_all, listen
from vm_webapp.ops.worker_start import EXIT_WRONG_CONFIGURATION
from vm_webapp.parents import Parents, drain_without
from vm_webapp.settings import Settings

log = logging.getLogger(__name__)

MAX_DEATHS = 5
WITHIN_SECONDS = 60.0
NOT_MADE_PAUSE_SECONDS = 1.0
ADDRESS_SECONDS, ADDRESS_RETRY_SECONDS = 2.0, 0.1
SAME_SIGNAL_SECONDS = 2.0  # a terminal or a supervisor may deliver a signal twice, to the process and to its group


class ApisKeepDying(VMError):
    """Too many API processes died."""

    code = "apis_keep_dying"


def keep_serving(settings: Settings, *, host: str, port: int, with_worker: bool, parents: Parents) -> int:
    """Keep as many API processes as the settings say until SIGTERM, Ctrl-C or the end of a parent, which drain them.

    Args:
        settings: the settings of the environment.
        host: the address to listen on.
        port: the port, 0 for any free one.
        with_worker: keep a worker as well; never done in managed mode.
        parents: the parents that it does not outlive.

    Returns:
        The exit code: 2 if a process reported that the configuration is wrong.

    Raises:
        ConfigurationError: something cannot be started; what was started is stopped again.
        ApisKeepDying: five processes died within a minute; all are stopped.
    """
    with_worker = with_worker and not settings.managed
    apis = asyncio.run(_keep_serving(settings, host, port, with_worker=with_worker, parents=parents))
    if apis.keep_dying:
        raise ApisKeepDying(
            f"{MAX_DEATHS} API processes died within a minute: the log above says how (api.died; exit code -9 is often"
            " a lack of memory: set WEB_CONCURRENCY lower or add memory), fix that and start again"
        )
    return EXIT_WRONG_CONFIGURATION if apis.wrong_configuration else 0


class ApiProcesses:
    """API processes on the same sockets, each replaced when it dies.

    Args:
        settings: the settings of the environment.
        arguments: the command line of ``serve``, apart from the sockets.
        sockets: the sockets on which they accept connections.
        give_up: called when no process will be restarted any more.

    Attributes:
        keep_dying: whether restarts ended because too many processes died.
        wrong_configuration: whether restarts ended because a process reported that the configuration is wrong.
    """

    def __init__(
        self,
        settings: Settings,
        arguments: Sequence[str],
        sockets: Sequence[socket.socket],
        *,
        give_up: Callable[[], object],
    ) -> None:
        descriptors = [each.fileno() for each in sockets]
        self._children = [
            _ApiChild(settings, arguments, descriptors, self._pause_after) for _ in range(settings.web_concurrency)
        ]
        self._tasks: list[asyncio.Task[None]] = []
        self._deaths: deque[float] = deque(maxlen=MAX_DEATHS)
        self._give_up = give_up
        self.keep_dying = False
        self.wrong_configuration = False

    @property
    def gave_up(self) -> bool:
        """Whether no process is restarted any more."""
        return self.keep_dying or self.wrong_configuration

    async def start(self) -> list[str]:
        """Start the processes; return the lines that the first one prints for a person once it serves."""
        # The first starts alone, so that an error in the configuration is reported once.
        first, *others = self._children
        self._keep(first)
        await first.serves.wait()
        for child in others:
            self._keep(child)
        return first.lines

    async def stop(self) -> None:
        """Drain all processes at the same time; kill those that do not exit in time."""
        await asyncio.gather(*(child.stop() for child in self._children))
        await asyncio.gather(*self._tasks)

    def kill(self) -> None:
        """Kill all processes."""
        for child in self._children:
            child.kill()

    def _keep(self, child: _ApiChild) -> None:
        self._tasks.append(asyncio.create_task(child.keep_running()))

    def _pause_after(self, code: int) -> float | None:
        if code == EXIT_NOT_MADE:
            return NOT_MADE_PAUSE_SECONDS
        # The process has printed the reason. Once a process has served, this code is a death like any other: the same
        # configuration has proved right.
        if code == EXIT_WRONG_CONFIGURATION and not self._children[0].serves.is_set():
            self.wrong_configuration = True
        elif self._record_death(code):
            self.keep_dying = True
        else:
            return 0.0
        self._give_up()
        return None

    def _record_death(self, code: int) -> bool:
        """Record the death of a process; return whether too many died within a minute."""
        log.warning("api.died", extra={"exit_code": code})
        now = time.monotonic()
        self._deaths.append(now)
        return len(self._deaths) == MAX_DEATHS and now - self._deaths[0] <= WITHIN_SECONDS


class _ApiChild(Child):
    """One API process.

    Attributes:
        lines: the lines that it printed for a person.
        serves: set once it serves requests.
    """

    def __init__(
        self,
        settings: Settings,
        arguments: Sequence[str],
        descriptors: Sequence[int],
        pause_after: Callable[[int], float | None],
    ) -> None:
        super().__init__(
            "api",
            ("serve", *arguments, "--on-descriptors", ",".join(map(str, descriptors))),
            log_level=settings.log_level,
            drain_seconds=FINISH_SECONDS,
            inherited=descriptors,
            on_line=self._read_line,
        )
        self._decide = pause_after
        self.lines: list[str] = []
        self.serves = asyncio.Event()

    def _read_line(self, line: str) -> None:
        # An empty line ends what serve_for_parent() prints. Later output, if any, is dropped.
        if not line:
            self.serves.set()
        elif not self.serves.is_set():
            self.lines.append(line)

    def _pause_after(self, code: int, lived_seconds: float) -> float | None:
        return self._decide(code)


class _StopSignals:
    """The first signal starts a drain; one within two seconds counts as the same signal; a later one exits at once.

    Args:
        stop: set by the first signal.

    Attributes:
        before_exit: called by the later signal, before the process exits.
    """

    def __init__(self, stop: asyncio.Event) -> None:
        self.before_exit: Callable[[], object] = stop.set
        self._stop = stop
        self._first: float | None = None
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, self._handle)

    def _handle(self) -> None:
        now = time.monotonic()
        if self._first is None:
            self._first = now
            self._stop.set()
        elif now - self._first > SAME_SIGNAL_SECONDS:
            self.before_exit()
            os._exit(1)


async def _listen(host: str, port: int) -> list[socket.socket]:
    """Listen on an address; retry for a moment if it is in use."""
    # The children of a parent that was killed keep the address until they notice.
    until = time.monotonic() + ADDRESS_SECONDS
    while True:
        try:
            return listen(host, port)
        except ConfigurationError as error:
            in_use = isinstance(error.__cause__, OSError) and error.__cause__.errno == errno.EADDRINUSE
            if not in_use or time.monotonic() >= until:
                raise
        await asyncio.sleep(ADDRESS_RETRY_SECONDS)


async def _keep_serving(
    settings: Settings, host: str, port: int, *, with_worker: bool, parents: Parents
) -> ApiProcesses:
    stop = asyncio.Event()
    signals = _StopSignals(stop)
    drain_without(parents, unless=stop.is_set)
    with ExitStack() as opened:
        if not settings.managed:
            # Imported only here: a parent that does not migrate needs a third of a child's memory.
            from vm_webapp.cli.migrated import migrated_servers

            opened.enter_context(migrated_servers(settings))
        sockets = await _listen(host, port)
        bound = str(sockets[0].getsockname()[1])
        arguments = ("--host", host, "--port", bound, *(() if with_worker else ("--no-worker",)))
        apis = ApiProcesses(settings, arguments, sockets, give_up=stop.set)
        signals.before_exit = apis.kill
        worker = WorkerChild(settings)
        tasks = [asyncio.create_task(stop.wait()), starting := asyncio.create_task(apis.start())]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            if starting.done():
                announce("\n".join(starting.result()))
                if with_worker:
                    tasks.append(asyncio.create_task(worker.keep_running()))
            await stop.wait()
            if not apis.gave_up:
                announce("stopping …")
        finally:
            stop.set()
            starting.cancel()
            close_all(sockets)  # or the kernel would go on queueing connections that nobody accepts
            await apis.stop()
            await worker.stop()
            await asyncio.gather(*tasks, return_exceptions=True)
    return apis
