"""The limit of attempts to sign in, counted exactly: each attempt is one statement in PostgreSQL."""

from __future__ import annotations

import math

from api.http.problems import RequestError
from api.http.threads import Threads
from vm_webapp.access.addresses import counted_address
from vm_webapp.access.rate_windows import seconds_until_admitted

ATTEMPTS_A_MINUTE = 10
ATTEMPTS_OF_ALL = 600  # bounds the work, and the number of addresses that are stored


class SignInLimit:
    """Counts attempts to sign in, over all processes.

    Args:
        threads: the pool on which they are counted.
    """

    def __init__(self, threads: Threads) -> None:
        self._threads = threads

    async def admit_sign_in(self, address: str) -> None:
        """Count an attempt from an address; of IPv6 a /64 counts as one address.

        Raises:
            RequestError: 429; there were too many within a minute.
            Unavailable: the attempt could not be counted, so it must not be made.
        """
        wait = await self._threads.run(
            lambda: seconds_until_admitted(
                f"sign-in {counted_address(address)}",
                limit=ATTEMPTS_A_MINUTE,
                all_of="sign-in",
                limit_of_all=ATTEMPTS_OF_ALL,
            )
        )
        if wait is not None:
            seconds = math.ceil(wait) or 1
            detail = f"too many attempts to sign in; try again in {seconds} s"
            raise RequestError(429, "rate_limited", detail, headers={"Retry-After": str(seconds)})
