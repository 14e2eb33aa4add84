"""The probes of the API."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from vm_webapp.client.connection import Connection
from vm_webapp.client.errors import NotThisApi

LIVE_BODY = b'{"status":"live"}'  # these exact bytes are part of the contract: no other server sends them by chance


@dataclass(frozen=True, slots=True)
class Readiness:
    """The verdict of the readiness probe.

    Attributes:
        ready: whether work can progress.
        status: the HTTP status.
        reasons: why work cannot progress; each reason says what to do.
        dependencies: an object with a ``status`` per dependency, None if they are missing: it is not this API then.
        build: the build of the process that responded, None for callers who may not see it.
    """

    ready: bool
    status: int
    reasons: tuple[str, ...]
    dependencies: dict[str, dict[str, Any]] | None
    build: str | None


class Health:
    """The probes of an API. Every call raises as ``Connection.send``.

    Args:
        connection: the connection to the API.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def live(self) -> None:
        """Return if the process is live.

        Raises:
            NotThisApi: something else responded.
        """
        response = await self._connection.send("GET", "/health/live")
        if (response.status, response.content) != (200, LIVE_BODY):
            raise NotThisApi(self._connection.address, response)

    async def ready(self) -> Readiness:
        """Return the readiness verdict; any response but 200 with the status ``ready`` means not ready.

        Raises:
            NotThisApi: the response is not a JSON object.
        """
        response = await self._connection.send("GET", "/health/ready")
        if response.missing:
            raise NotThisApi(self._connection.address, response)
        fields = response.fields
        reasons, build = fields.get("reasons"), fields.get("build")
        # Checked field by field, unlike other responses: the smoke test reads it before it knows what it talks to.
        return Readiness(
            ready=(response.status, fields.get("status")) == (200, "ready"),
            status=response.status,
            reasons=tuple(map(str, reasons)) if isinstance(reasons, list) else (),
            dependencies=_dependencies(fields.get("dependencies")),
            build=build if isinstance(build, str) else None,
        )


def _dependencies(found: object) -> dict[str, dict[str, Any]] | None:
    if not isinstance(found, dict):
        return None
    return found if all(isinstance(facts, dict) and "status" in facts for facts in found.values()) else None
