"""The limit of requests a minute of each key: 429 above it, and the headers that tell a caller where it stands.

The headers are those of draft-ietf-httpapi-ratelimit-headers-11. All processes share the limit; ``RateLimit`` tells
what this process knows.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections import OrderedDict
from dataclasses import dataclass

from aiohttp import web

from api.http.problems import RequestError
from api.http.threads import Threads
from vm_webapp.access.allowance import Allowance, Plan
from vm_webapp.access.rate_windows import WINDOW_SECONDS, take
from vm_webapp.errors import VMError

log = logging.getLogger(__name__)

POLICY, RUNS_POLICY = "requests", "runs"
DAY_SECONDS = 86_400
MOST_WAIT_SECONDS = 1.0  # for a portion, before a request goes on with this process's share
MAX_CALLERS = 4096


@dataclass(frozen=True, slots=True)
class Standing:
    """Where a caller stands: the limit as a header, and what this process still admits."""

    policy: str
    allowance: Allowance

    def headers(self) -> dict[str, str]:
        """Return the headers that tell it."""
        reset = math.ceil(self.allowance.seconds_left(time.monotonic()))
        return {"RateLimit-Policy": self.policy, "RateLimit": f'"{POLICY}";r={self.allowance.remaining};t={reset}'}


STANDING = web.RequestKey("standing", Standing)


class RateLimits:
    """What this process admits of each caller.

    Args:
        threads: the pool on which portions are taken.
        limit: requests a minute of each caller, over all processes.
        processes: how many API processes the service has.
        runs_per_day: how many runs each caller may create on a day, None for any number; only told here.
    """

    def __init__(self, threads: Threads, *, limit: int, processes: int, runs_per_day: int | None = None) -> None:
        self._threads = threads
        self._plan = Plan.of(limit, processes)
        self._allowances: OrderedDict[str, Allowance] = OrderedDict()
        self._taking: dict[str, asyncio.Task[None]] = {}
        self._policy = f'"{POLICY}";q={limit};w={WINDOW_SECONDS}'
        if runs_per_day is not None:
            self._policy += f', "{RUNS_POLICY}";q={runs_per_day};w={DAY_SECONDS}'

    async def admit(self, request: web.Request, caller: str) -> None:
        """Count a request of a caller, and note on the request where the caller stands.

        Raises:
            RequestError: 429; the caller has used up the limit.
        """
        allowance = self._allowance_of(caller)
        request[STANDING] = Standing(self._policy, allowance)
        while not allowance.spend(now := time.monotonic()):
            if not allowance.may_get_more(now):
                raise self._refusal(allowance.seconds_left(now))
            await self._wait_for_portion(caller, allowance)
        if allowance.should_take(now):
            self._take_in_background(caller, allowance)

    async def close(self) -> None:
        """Stop taking portions."""
        tasks = list(self._taking.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _allowance_of(self, caller: str) -> Allowance:
        allowance = self._allowances.get(caller)
        if allowance is None:
            allowance = self._allowances[caller] = Allowance(self._plan, time.monotonic())
            if len(self._allowances) > MAX_CALLERS:
                self._allowances.popitem(last=False)
        self._allowances.move_to_end(caller)
        return allowance

    async def _wait_for_portion(self, caller: str, allowance: Allowance) -> None:
        task = self._take_in_background(caller, allowance)
        # Not cancelled: other requests wait for the same portion.
        done, _ = await asyncio.wait({task}, timeout=MOST_WAIT_SECONDS)
        if not done:
            allowance.go_on_alone(time.monotonic())

    def _take_in_background(self, caller: str, allowance: Allowance) -> asyncio.Task[None]:
        task = self._taking.get(caller)
        if task is None:
            task = self._taking[caller] = asyncio.create_task(self._take(caller, allowance))
            task.add_done_callback(lambda _: self._taking.pop(caller))
        return task

    async def _take(self, caller: str, allowance: Allowance) -> None:
        asked_at, wanted = time.monotonic(), allowance.ask()
        try:
            taken = await self._threads.run(lambda: take(f"requests {caller}", wanted, limit=self._plan.limit))
        except Exception as error:  # whatever it is, requests must neither fail nor wait for it again and again
            if not allowance.alone:
                unexpected = not isinstance(error, VMError)
                log.warning("rate_limits.alone", extra={"error": str(error)}, exc_info=unexpected)
            allowance.go_on_alone(time.monotonic())
        else:
            allowance.add(taken, asked_at=asked_at, now=time.monotonic())

    def _refusal(self, seconds_left: float) -> RequestError:
        wait = math.ceil(seconds_left) or 1
        detail = f"more than {self._plan.limit} requests a minute; try again in {wait} s"
        return RequestError(429, "rate_limited", detail, headers={"Retry-After": str(wait)})


async def tell_standing(request: web.Request, response: web.StreamResponse) -> None:
    """Put the headers on a response to a caller who has a limit; connected to ``on_response_prepare``."""
    standing = request.get(STANDING)
    if standing is not None:
        response.headers.update(standing.headers())
