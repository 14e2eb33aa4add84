"""Waits for a rollout: the API responds, work can progress, and all processes are of the build that was deployed."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from vm_webapp.client import ApiClient
from vm_webapp.client.errors import ApiError, NotThisApi
from vm_webapp.client.health import LIVE_BODY, Readiness
from vm_webapp.ops.smoke.failures import StepFailed, describe_response, explain

Found = TypeVar("Found")

READY_SECONDS = 30.0
POLL_SECONDS = 0.5
SHORTEST_COMMIT = 7


class Rollout:
    """Waits for a rollout; the time counts from the first step.

    Args:
        api: a client of the deployment.
        address: its URL, as given to the command.
        wait_seconds: how long all steps may take together. None if no rollout is in progress: the API must respond at
            once, and has half a minute to become ready.
    """

    def __init__(self, api: ApiClient, address: str, wait_seconds: float | None) -> None:
        self._api = api
        self._address = address
        self._live_seconds = 0.0 if wait_seconds is None else wait_seconds
        self._seconds = READY_SECONDS if wait_seconds is None else wait_seconds
        self._began: float | None = None

    async def live(self) -> str:
        """Wait until the process responds."""
        return await self._until(self._check_live, self._live_seconds, "no sign of life")

    async def ready(self) -> dict[str, dict[str, Any]]:
        """Wait until work can progress; return the facts of each dependency from readiness."""
        return await self._until(self.dependencies, self._seconds, "not ready")

    async def build(self, expected: str) -> str:
        """Wait until the API and every worker that claims stages are of a build: its name, or its commit."""

        async def check() -> str:
            return await self._check_builds(expected)

        return await self._until(check, self._seconds, f"not build {expected}")

    async def dependencies(self) -> dict[str, dict[str, Any]]:
        """Return the facts of each dependency from readiness, if work can progress now.

        Raises:
            StepFailed: work cannot progress, or the response is not one of this API.
            ApiError: there was no response.
        """
        return (await self._readiness())[1]

    async def _readiness(self) -> tuple[Readiness, dict[str, dict[str, Any]]]:
        try:
            readiness = await self._api.health.ready()
        except NotThisApi as error:
            raise StepFailed(describe_response(error.response)) from None
        if not readiness.ready:
            raise StepFailed("; ".join(readiness.reasons) or f"it responded with {readiness.status}")
        if readiness.dependencies is None:
            raise StepFailed("it responded with 200 without the dependencies: is --base-url this API?")
        return readiness, readiness.dependencies

    async def _check_live(self) -> str:
        try:
            await self._api.health.live()
        except NotThisApi as error:
            raise StepFailed(
                f"{self._address} is not this API: it responded with {error.response.status} "
                f"and not {LIVE_BODY.decode()}; check --base-url"
            ) from None
        return "the process responds"

    async def _check_builds(self, expected: str) -> str:
        build = (await self._readiness())[0].build
        if build is None:
            raise StepFailed("the API that responds does not show its build: it is an older one")
        if not is_build(build, expected):
            raise StepFailed(f"the API that responds is build {build}")
        workers = await self._api.queue.workers()
        # Draining workers claim nothing more, so the test run cannot be executed by the old build.
        working = {each["build"] for each in workers if each["fresh"] and each["state"] == "working"}
        if not working:
            raise StepFailed("no worker takes work yet")
        if others := sorted(other for other in working if not is_build(other, expected)):
            raise StepFailed(f"workers of build {', '.join(others)} still take work")
        return f"API and workers are build {build}"

    async def _until(self, check: Callable[[], Awaitable[Found]], seconds: float, failed: str) -> Found:
        now = time.monotonic()
        self._began = now if self._began is None else self._began
        while True:
            try:
                return await check()
            # Any error is retried: during a rollout a proxy responds in place of the API, or nothing listens.
            except (StepFailed, ApiError) as error:
                if time.monotonic() + POLL_SECONDS > self._began + seconds:
                    reason = explain(error, self._address)
                    raise StepFailed(f"{failed} within {seconds:g} s: {reason}" if seconds else reason) from None
            await asyncio.sleep(POLL_SECONDS)


def is_build(build: str, expected: str) -> bool:
    """Return whether a build is the expected one.

    Args:
        build: a build's name: its version and, after a plus sign, the first characters of its commit.
        expected: such a name, or at least seven characters of the commit.
    """
    commit = build.partition("+")[2]
    # Either of the two may be the shorter one: a name has twelve characters of the commit, a pipeline may pass seven.
    known = min(len(commit), len(expected))
    return build == expected or (known >= SHORTEST_COMMIT and commit[:known] == expected[:known])
