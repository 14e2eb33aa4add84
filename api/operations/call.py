"""The context of a call, which every query and command receives."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from aiohttp import web

from api.auth.actors import ACTOR
from api.services import SERVICES, Services, services
from vm_webapp.access.actor import Actor
from vm_webapp.access.run_quota import RunQuota


@dataclass(frozen=True, slots=True)
class Call:
    """The context of one call.

    Attributes:
        services: the services of this process.
        actor: the caller.
        if_match: the ``If-Match`` header, None if the request has none.
    """

    services: Services
    actor: Actor
    if_match: str | None

    @property
    def run_quota(self) -> RunQuota | None:
        """How many runs the caller may create on a day; None for any number."""
        return RunQuota.of(self.actor, self.services.settings.runs_per_day)

    @property
    def context(self) -> Mapping[Any, Services]:
        """What validators of response models may use: the services, as those of a body find them."""
        return {SERVICES: self.services}

    @classmethod
    def of(cls, request: web.Request) -> Call:
        """Return the context of a request that the guard has admitted."""
        return cls(services(request), request[ACTOR], request.headers.get("If-Match"))
