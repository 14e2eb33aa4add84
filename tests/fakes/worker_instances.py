"""Real worker processes in place of a platform's instances: started when more are asked for, ended by SIGTERM."""

from __future__ import annotations

import signal
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.support.processes import Program, program


class WorkerInstances:
    """The instances of a worker service.

    Args:
        env: the service's environment.
        folder: for the output of the processes.

    Attributes:
        kept: those that are not to end.
        ended: those that were told to end.
    """

    def __init__(self, env: Mapping[str, str], folder: Path) -> None:
        self.kept: list[Program] = []
        self.ended: list[Program] = []
        self._env = env
        self._folder = folder
        self._opened = ExitStack()

    def keep(self, number: int) -> None:
        """Start instances, or tell the newest to end, until so many are kept."""
        while len(self.kept) < number:
            folder = self._folder / f"worker-{len(self.kept) + len(self.ended)}"
            start = program("worker", "--poll-interval-ms", "200", env=self._env, folder=folder)
            self.kept.append(self._opened.enter_context(start))
        while len(self.kept) > number:
            ending = self.kept.pop()
            ending.signal(signal.SIGTERM)
            self.ended.append(ending)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._opened.close()
