"""An API client that repeats each request with its idempotency key until it succeeds, as clients should."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Self
from uuid import UUID, uuid4

import httpx

from tests.chaos.harness import NEW_RUN, Api
from tests.support.waiting import eventually

REPEAT_SECONDS = 0.5


class RetryingClient:
    """Creates runs at a steady pace during a block, on a thread of its own.

    Args:
        api: returns the API to use; it may change over time.
        every: seconds between two runs.

    Attributes:
        accepted: the id of each run that was created, and the seconds that the successful request took.
        refused: how many requests got another response than 201, or none.
    """

    def __init__(self, api: Callable[[], Api], *, every: float) -> None:
        self.accepted: list[tuple[UUID, float]] = []
        self.refused = 0
        self._api = api
        self._every = every
        self._ended = threading.Event()
        self._failed = False
        self._thread = threading.Thread(target=self._run, name="retrying-client")

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._failed = error is not None
        self._thread.join()

    @property
    def run_ids(self) -> list[UUID]:
        """The runs that were accepted."""
        return [run_id for run_id, _ in self.accepted]

    @property
    def slowest(self) -> float:
        """How many seconds the slowest successful request took."""
        return max(seconds for _, seconds in self.accepted)

    def wait_for_another(self, *, seconds: float) -> None:
        """Wait until one more run is accepted."""
        so_far = len(self.accepted)
        eventually(lambda: len(self.accepted) > so_far, "another run is accepted", seconds=seconds)

    def _run(self) -> None:
        # A request is repeated even after the block: the test asks whether one without a response took effect. Not
        # where the test has failed, perhaps because there is no server any more.
        while not self._ended.wait(self._every):
            key = str(uuid4())
            while not self._post(key) and not self._failed:
                time.sleep(REPEAT_SECONDS)

    def _post(self, key: str) -> bool:
        began = time.monotonic()
        try:
            response = self._api().client.post("/runs", json=NEW_RUN, headers={"Idempotency-Key": key})
        except httpx.HTTPError:
            self.refused += 1
            return False
        if response.status_code != 201:
            # 409: the API still executes the earlier request with this key.
            assert response.status_code in (409, 503), response.text
            self.refused += 1
            return False
        self.accepted.append((UUID(response.json()["id"]), time.monotonic() - began))
        return True
