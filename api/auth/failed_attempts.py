"""Failed attempts to present a key, counted for each address in this process, in bounded memory."""

from __future__ import annotations

import math
import time
from collections import OrderedDict
from collections.abc import Callable

from api.http.problems import RequestError
from vm_webapp.access.addresses import counted_address

MOST_FAILURES = 30
WINDOW_SECONDS = 60.0
MAX_ADDRESSES = 4096  # the address that failed longest ago is forgotten first


class FailedAttempts:
    """Counts the keys that were refused, by the address that they came from.

    Args:
        clock: returns monotonic seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._failures: OrderedDict[str, tuple[float, int]] = OrderedDict()  # address → when it began, how many

    def __len__(self) -> int:
        return len(self._failures)

    def refuse_if_too_many(self, address: str) -> None:
        """Refuse another unknown key from an address that has presented too many within a minute.

        Raises:
            RequestError: 429.
        """
        began, failures = self._failures.get(counted_address(address), (0.0, 0))
        left = began + WINDOW_SECONDS - self._clock()
        if failures >= MOST_FAILURES and left > 0:
            wait = math.ceil(left)
            detail = f"too many keys that are not valid came from this address; try again in {wait} s"
            raise RequestError(429, "rate_limited", detail, headers={"Retry-After": str(wait)})

    def note(self, address: str) -> None:
        """Count a key that is not valid."""
        counted, now = counted_address(address), self._clock()
        began, failures = self._failures.get(counted, (now, 0))
        if now >= began + WINDOW_SECONDS:
            began, failures = now, 0
        self._failures[counted] = (began, failures + 1)
        self._failures.move_to_end(counted)
        if len(self._failures) > MAX_ADDRESSES:
            self._failures.popitem(last=False)
