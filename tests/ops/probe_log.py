"""Records the responses of a running API's probes over time, on a thread that polls them."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

import httpx

from tests.support.waiting import eventually

PAUSE_SECONDS = 0.1
START_SECONDS = 20.0


@dataclass(frozen=True, slots=True)
class Entry:
    """A verdict that differs from the one before it."""

    status: str
    reasons: tuple[str, ...]


class ProbeLog:
    """Polls both probes of an API, from the first time that it is ready to the end of a block.

    Attributes:
        entries: the first ready verdict, and each change after it.
        failed_liveness: every wrong response of the liveness probe, and every request that failed.
    """

    def __init__(self, base_url: str) -> None:
        self.entries: list[Entry] = []
        self.failed_liveness: list[str] = []
        self._base_url = f"{base_url}/api/v2/health"
        self._body: dict[str, Any] = {}
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        self.wait_for("ready", seconds=START_SECONDS)
        # While it started it may have been not ready, which no test counts.
        del self.entries[:-1]
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._thread.join(10)

    def wait_for(self, status: str, *, seconds: float) -> Entry:
        """Return the entry once the latest verdict is this one."""
        eventually(
            lambda: self.entries and self.entries[-1].status == status, f"{status}: {self._body}", seconds=seconds
        )
        return self.entries[-1]

    def wait_for_dependency(self, dependency: str, status: str, *, seconds: float) -> None:
        """Wait until readiness reports this status of a dependency."""

        def reported() -> bool:
            return bool(self._body.get("dependencies", {}).get(dependency, {}).get("status") == status)

        eventually(reported, f"{dependency} is {status}", seconds=seconds)

    def _run(self) -> None:
        with httpx.Client(base_url=self._base_url, timeout=5, trust_env=False) as client:
            while not self._ended.is_set():
                self._poll(client)
                time.sleep(PAUSE_SECONDS)

    def _poll(self, client: httpx.Client) -> None:
        try:
            live = client.get("/live")
            if (live.status_code, live.content) != (200, b'{"status":"live"}'):
                self.failed_liveness.append(live.text)
            ready = client.get("/ready")
        except httpx.HTTPError as error:
            self.failed_liveness.append(repr(error))
            return
        self._body = ready.json()
        assert (ready.status_code == 200) == (self._body["status"] == "ready")
        if not self.entries or self.entries[-1].status != self._body["status"]:
            self.entries.append(Entry(self._body["status"], tuple(self._body.get("reasons", ()))))
