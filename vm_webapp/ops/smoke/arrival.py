"""Whether a deployment has arrived: it answers, work can progress, and it is the build that was deployed."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from vm_webapp.ops.smoke.deployment import Deployment, StepFailed

Seen = TypeVar("Seen")

LIVE_BODY = b'{"status":"live"}'
READY_SECONDS = 30.0
POLL_SECONDS = 0.5
SHORTEST_COMMIT = 7


class Arrival:
    """Waits for a deployment; the time begins with the first step.

    Args:
        api: the deployment.
        wait_seconds: how long all steps may take together. None where it is there already: it has to answer at once,
            and gets half a minute to become ready.
    """

    def __init__(self, api: Deployment, wait_seconds: float | None) -> None:
        self._api = api
        self._live_seconds = 0.0 if wait_seconds is None else wait_seconds
        self._seconds = READY_SECONDS if wait_seconds is None else wait_seconds
        self._began: float | None = None

    async def live(self) -> str:
        """Wait until the process answers."""
        return await self._until(self._look_live, self._live_seconds, "no sign of life")

    async def ready(self) -> dict[str, Any]:
        """Wait until work can progress; return what readiness tells."""
        return await self._until(self._api.readiness, self._seconds, "not ready")

    async def build(self, expected: str) -> str:
        """Wait until the API and every worker that takes work are of a build: its name, or its commit."""

        async def look() -> str:
            return await self._look_at_builds(expected)

        return await self._until(look, self._seconds, f"not build {expected}")

    async def _look_live(self) -> str:
        response = await self._api.send("GET", "/health/live")
        if (response.status_code, response.content) != (200, LIVE_BODY):
            raise StepFailed(
                f"{self._api.address} is not this API: it answered {response.status_code} "
                f"and not {LIVE_BODY.decode()}; check --base-url"
            )
        return "the process answers"

    async def _look_at_builds(self, expected: str) -> str:
        told = (await self._api.readiness()).get("build")
        if not isinstance(told, str):
            raise StepFailed("the API that answers does not tell its build: it is an older one")
        if not is_build(told, expected):
            raise StepFailed(f"the API that answers is build {told}")
        workers = (await self._api.call("GET", "/workers"))["items"]
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
            except StepFailed as error:
                if time.monotonic() + POLL_SECONDS > self._began + seconds:
                    raise StepFailed(f"{failed} within {seconds:g} s: {error}" if seconds else str(error)) from None
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
