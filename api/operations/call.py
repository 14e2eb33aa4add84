"""What a query or a command knows of its call."""

from __future__ import annotations

from dataclasses import dataclass

from aiohttp import web

from api.auth.actors import ACTOR
from api.services import Services, services


@dataclass(frozen=True, slots=True)
class Call:
    """A call.

    Attributes:
        services: the parts of this process.
        actor: who calls.
        if_match: the ``If-Match`` header, None where there is none.
    """

    services: Services
    actor: str
    if_match: str | None

    @classmethod
    def of(cls, request: web.Request) -> Call:
        """Return what is known of a request that the guard has let in."""
        return cls(services(request), request[ACTOR], request.headers.get("If-Match"))
