"""Whether a deployment has arrived: it answers, work can progress, and it is the build that was deployed."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from vm_webapp.client import ApiClient
from vm_webapp.client.errors import ApiError, NotThisApi
from vm_webapp.client.health import LIVE_BODY, Readiness
from vm_webapp.ops.smoke.failures import StepFailed, told_by, why

Seen = TypeVar("Seen")

READY_SECONDS = 30.0
POLL_SECONDS = 0.5
SHORTEST_COMMIT = 7


class Arrival:
    """Waits for a deployment; the time begins with the first step.

    Args:
        api: the deployment.
        address: its address, as it was given.
        wait_seconds: how long all steps may take together. None where it is there already: it has to answer at once,
            and gets half a minute to become ready.
    """

    def __init__(self, api: ApiClient, address: str, wait_seconds: float | None) -> None:
        self._api = api
        self._address = address
        self._live_seconds = 0.0 if wait_seconds is None else wait_seconds
        self._seconds = READY_SECONDS if wait_seconds is None else wait_seconds
        self._began: float | None = None

    async def live(self) -> str:
        """Wait until the process answers."""
        return await self._until(self._look_live, self._live_seconds, "no sign of life")

    async def ready(self) -> dict[str, dict[str, Any]]:
        """Wait until work can progress; return what readiness tells of each dependency."""
        return await self._until(self.dependencies, self._seconds, "not ready")

    async def build(self, expected: str) -> str:
        """Wait until the API and every worker that takes work are of a build: its name, or its commit."""

        async def look() -> str:
            return await self._look_at_builds(expected)

        return await self._until(look, self._seconds, f"not build {expected}")

    async def dependencies(self) -> dict[str, dict[str, Any]]:
        """Return what readiness tells of each dependency where work can progress now.

        Raises:
            StepFailed: work cannot progress, or the answer is none of this API.
            ApiError: there was no answer.
        """
        return (await self._readiness())[1]

    async def _readiness(self) -> tuple[Readiness, dict[str, dict[str, Any]]]:
        try:
            told = await self._api.health.ready()
        except NotThisApi as error:
            raise StepFailed(told_by(error.response)) from None
        if not told.ready:
            raise StepFailed("; ".join(told.reasons) or f"it answered {told.status}")
        if told.dependencies is None:
            raise StepFailed("it answered 200 without the dependencies: is --base-url this API?")
        return told, told.dependencies

    async def _look_live(self) -> str:
        try:
            await self._api.health.live()
        except NotThisApi as error:
            raise StepFailed(
                f"{self._address} is not this API: it answered {error.response.status} "
                f"and not {LIVE_BODY.decode()}; check --base-url"
            ) from None
        return "the process answers"

    async def _look_at_builds(self, expected: str) -> str:
        told = (await self._readiness())[0].build
        if told is None:
            raise StepFailed("the API that answers does not tell its build: it is an older one")
        if not is_build(told, expected):
            raise StepFailed(f"the API that answers is build {told}")
        workers = await self._api.queue.workers()
        taking = {each["build"] for each in workers if each["fresh"] and each["state"] == "working"}
        if not taking:
            raise StepFailed("no worker takes work yet")
        if others := sorted(build for build in taking if not is_build(build, expected)):
            raise StepFailed(f"workers of build {', '.join(others)} still take work")
        return f"API and workers are build {told}"

    async def _until(self, look: Callable[[], Awaitable[Seen]], seconds: float, failed: str) -> Seen:
        now = time.monotonic()
        self._began = now if self._began is None else self._began
        while True:
            try:
                return await look()
            except (StepFailed, ApiError) as error:
                if time.monotonic() + POLL_SECONDS > self._began + seconds:
                    told = why(error, self._address)
                    raise StepFailed(f"{failed} within {seconds:g} s: {told}" if seconds else told) from None
            await asyncio.sleep(POLL_SECONDS)


def is_build(told: str, expected: str) -> bool:
    """Tell whether a build is the one that was deployed.

    Args:
        told: a build as it names itself: its version and, after a plus sign, the first characters of its commit.
        expected: such a name, or at least seven characters of the commit.
    """
    commit = told.partition("+")[2]
    known = min(len(commit), len(expected))
    return told == expected or (known >= SHORTEST_COMMIT and commit[:known] == expected[:known])
