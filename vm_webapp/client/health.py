"""The probes of the API."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from vm_webapp.client.connection import Connection
from vm_webapp.client.errors import NotThisApi

LIVE_BODY = b'{"status":"live"}'


@dataclass(frozen=True, slots=True)
class Readiness:
    """What readiness tells.

    Attributes:
        ready: whether work can progress.
        status: the HTTP status.
        reasons: why not, each saying what to do.
        dependencies: an object with a ``status`` for each, None where they are missing: it is not this API then.
        build: the build of the process that answered, None where it is not told.
    """

    ready: bool
    status: int
    reasons: tuple[str, ...]
    dependencies: dict[str, dict[str, Any]] | None
    build: str | None


class Health:
    """The probes of an API. Every call raises as ``Connection.send``.

    Args:
        connection: the way to the API.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def live(self) -> None:
        """Return where the process answers.

        Raises:
            NotThisApi: something else does.
        """
        answer = await self._connection.send("GET", "/health/live")
        if (answer.status, answer.content) != (200, LIVE_BODY):
            raise NotThisApi(self._connection.address, answer)

    async def ready(self) -> Readiness:
        """Return what readiness tells; whatever does not say that work can progress says that it cannot.

        Raises:
            NotThisApi: it tells nothing.
        """
        answer = await self._connection.send("GET", "/health/ready")
        if answer.lacks:
            raise NotThisApi(self._connection.address, answer)
        told = answer.fields
        reasons, build = told.get("reasons"), told.get("build")
        return Readiness(
            ready=(answer.status, told.get("status")) == (200, "ready"),
            status=answer.status,
            reasons=tuple(map(str, reasons)) if isinstance(reasons, list) else (),
            dependencies=_dependencies(told.get("dependencies")),
            build=build if isinstance(build, str) else None,
        )


def _dependencies(told: object) -> dict[str, dict[str, Any]] | None:
    if not isinstance(told, dict):
        return None
    return told if all(isinstance(facts, dict) and "status" in facts for facts in told.values()) else None
