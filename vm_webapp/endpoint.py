"""Posts to another system's endpoint from a thread, within a bounded time and without following it elsewhere."""

from __future__ import annotations

import ssl
import urllib.error
import urllib.request
from collections.abc import Mapping
from http.client import HTTPException

from vm_webapp.text import first_line

TIMEOUT_SECONDS = 3.0


class NotTaken(Exception):
    """The other system did not take a request.

    Args:
        message: why, in one line that has neither the URL nor a header.
        status: what it responded, None if it could not be reached.
    """

    def __init__(self, message: str, *, status: int | None = None) -> None:
        super().__init__(message)
        self.status = status


class Endpoint:
    """An endpoint that takes POST requests.

    Args:
        name: of the other system, in messages.
        url: an http or https URL; never shown.
        headers: sent with each request, such as a key; never shown.
    """

    def __init__(self, name: str, url: str, headers: Mapping[str, str]) -> None:
        self._name = name
        self._url = url
        self._headers = dict(headers)
        # Its certificates are read once and not for each request.
        self._opener = urllib.request.build_opener(
            _NoRedirect, urllib.request.HTTPSHandler(context=ssl.create_default_context())
        )

    def post(self, body: bytes) -> None:
        """Send a request; the other system has 3 s for each step of it.

        Raises:
            NotTaken: it did not respond with success, or with a web page, as something else at a wrong URL does.
        """
        # The settings admit http and https only.
        request = urllib.request.Request(self._url, data=body, headers=self._headers, method="POST")  # noqa: S310
        try:
            with self._opener.open(request, timeout=TIMEOUT_SECONDS) as response:
                status, is_page = response.status, response.headers.get_content_type() == "text/html"
        except urllib.error.HTTPError as error:
            error.close()
            raise NotTaken(f"{self._name} responded {error.code}", status=error.code) from None
        except (OSError, HTTPException) as error:
            reason = getattr(error, "reason", error)
            # An error of the protocol quotes what was received, which may quote the request.
            shown = first_line(reason) if isinstance(reason, OSError) else type(reason).__name__
            raise NotTaken(f"no connection to {self._name}: {shown}") from None
        if is_page:
            raise NotTaken(f"{self._name} responded {status} with a web page: check its URL", status=status)


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """Takes a redirect for an error: following it would send the headers, and a key in them, to another server."""

    def redirect_request(self, *args: object, **kwargs: object) -> None:
        return None
