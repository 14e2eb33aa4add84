"""The platform on which the workers run, as far as their number is concerned: Render's API.

Source: https://api-docs.render.com/reference/scale-service and /retrieve-service.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Protocol

import httpx

from vm_webapp import __version__
from vm_webapp.errors import VMError
from vm_webapp.text import single_line

CALL_SECONDS = 3.0
"""How long a call may take in all: name look-up, connection, request and response together."""

MOST_INSTANCES = 10_000  # a number beyond is nonsense
LONGEST_BODY = 1_000_000  # bytes
LONGEST_WAIT_SECONDS = 3600.0


class PlatformError(VMError):
    """The platform did not do what it was asked for, or it is not known whether it did.

    Attributes:
        retry_after: seconds until it may be asked again, an hour at most; None if it did not say.
    """

    code = "platform_error"

    def __init__(self, message: str, *, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


@dataclass(frozen=True, slots=True)
class Service:
    """The workers' service.

    Attributes:
        instances: how many instances the platform keeps.
        scales_itself: whether the platform's own autoscaling is on, which ignores all other numbers.
    """

    instances: int
    scales_itself: bool


class Platform(Protocol):
    """Where workers run."""

    def read(self) -> Service:
        """Return the service as it is.

        Raises:
            PlatformError: it could not be read.
        """

    def scale(self, instances: int, *, until: float) -> None:
        """Set the number of instances.

        Args:
            instances: the number.
            until: monotonic time after which nothing is sent any more.

        Raises:
            PlatformError: the number may or may not have been set.
        """


class Render:
    """Render's API, for one service.

    Args:
        api_key: the key of an account that may change the service.
        service: its id, such as ``srv-…``.
        url: where the API is.
        clock: monotonic seconds.
    """

    def __init__(self, api_key: str, service: str, *, url: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._url = f"{url.rstrip('/')}/services/{service}"
        self._service = service
        self._headers = {
            "Authorization": f"Bearer {api_key}",
            "Accept": "application/json",
            "User-Agent": f"vm-webapp/{__version__}",
        }
        self._clock = clock
        # One loop for all calls: httpx's own time-outs are for each step of a call, and a task is cancelled as a whole.
        self._loop = asyncio.new_event_loop()

    def read(self) -> Service:
        """Return the service as it is.

        Raises:
            PlatformError: it could not be read, or the response makes no sense.
        """
        response = self._call("GET", self._url)
        try:
            return _service_in(response.json())
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            raise PlatformError(f"Render's response about {self._service} makes no sense") from None

    def scale(self, instances: int, *, until: float) -> None:
        """Set the number of instances.

        Args:
            instances: the number.
            until: monotonic time after which nothing is sent any more.

        Raises:
            PlatformError: the number may or may not have been set.
        """
        self._call("POST", f"{self._url}/scale", {"numInstances": instances}, until=until)

    def close(self) -> None:
        """Free what calls used."""
        self._loop.close()

    def _call(self, method: str, url: str, body: Any = None, *, until: float | None = None) -> httpx.Response:
        try:
            response = self._loop.run_until_complete(
                asyncio.wait_for(self._send(method, url, body, until), timeout=CALL_SECONDS)
            )
        except TimeoutError:
            raise PlatformError(f"Render did not respond within {CALL_SECONDS:g} s") from None
        except (httpx.HTTPError, httpx.InvalidURL, OSError) as error:
            reason = single_line(str(error)) or type(error).__name__
            raise PlatformError(f"Render cannot be reached: {reason}") from None
        if not response.is_success:
            raise _refusal(response, self._service)
        return response

    async def _send(self, method: str, url: str, body: Any, until: float | None) -> httpx.Response:
        async def check_time(event: str, _: Any) -> None:
            # The last moment at which this process can still know that it may: it may have been frozen since.
            if until is not None and event.endswith("send_request_headers.started") and self._clock() >= until:
                raise TimeoutError

        async with httpx.AsyncClient(headers=self._headers, timeout=CALL_SECONDS) as client:
            request = client.build_request(method, url, json=body, extensions={"trace": check_time})
            response = await client.send(request, stream=True)
            try:
                read = b""
                async for piece in response.aiter_bytes():
                    read += piece
                    if len(read) > LONGEST_BODY:
                        raise PlatformError("Render's response is too long to make sense")
            finally:
                await response.aclose()
            return httpx.Response(response.status_code, headers={"Retry-After": _retry_after(response)}, content=read)


def _service_in(found: Any) -> Service:
    details = found["serviceDetails"]
    instances = details["numInstances"]
    # A bool is an int.
    if type(instances) is not int or not 0 <= instances <= MOST_INSTANCES:
        raise ValueError(instances)
    autoscaling = details.get("autoscaling") or {}
    return Service(instances, scales_itself=autoscaling.get("enabled", False) is not False)


def _refusal(response: httpx.Response, service: str) -> PlatformError:
    match response.status_code:
        case HTTPStatus.UNAUTHORIZED | HTTPStatus.FORBIDDEN as status:
            return PlatformError(f"Render refuses RENDER_API_KEY ({status:d}): set one that may change {service}")
        case HTTPStatus.NOT_FOUND:
            return PlatformError(f"Render knows no service {service}: set VM_AUTOSCALE_SERVICE_ID to the worker's id")
        case HTTPStatus.TOO_MANY_REQUESTS:
            wait = response.headers["Retry-After"]
            return PlatformError(
                "Render was asked too often (429)",
                retry_after=min(float(wait), LONGEST_WAIT_SECONDS) if wait.isdecimal() else None,
            )
        case status:
            return PlatformError(f"Render responded with {status}")


def _retry_after(response: httpx.Response) -> str:
    text = response.headers.get("Retry-After", "").strip()
    return text if text.isascii() and text.isdecimal() and len(text) < 6 else ""
