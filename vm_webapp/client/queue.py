"""The operators' calls: the queue, its workers and the model providers."""

from __future__ import annotations

from typing import cast
from uuid import UUID

from vm_webapp.client.connection import Connection, path_of
from vm_webapp.client.shapes import BatchFigures, Provider, QueueFigures, RunFilter, Worker


class Queue:
    """The queue of an API. Every call raises as ``Connection.post``.

    Args:
        connection: the connection to the API.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def status(self) -> QueueFigures:
        """Return its figures."""
        return cast(QueueFigures, await self._connection.get("/queue"))

    async def pause(self, reason: str | None) -> QueueFigures:
        """Pause claiming, and return the figures."""
        return cast(QueueFigures, await self._connection.post("/queue/pause", {"reason": reason}))

    async def resume(self) -> QueueFigures:
        """Resume claiming, and return the figures."""
        return cast(QueueFigures, await self._connection.post("/queue/resume"))

    async def cancel_matching(self, where: RunFilter, *, after: UUID | None, dry_run: bool) -> BatchFigures:
        """Cancel a batch of the runs that match.

        Args:
            where: the filter that the runs must match.
            after: the ``next_after`` of the previous batch, None for the first.
            dry_run: only return which runs match.
        """
        return await self._change("cancel", where, after, dry_run=dry_run)

    async def retry_matching(self, where: RunFilter, *, after: UUID | None, dry_run: bool) -> BatchFigures:
        """Retry a batch of the failed runs that match; arguments as in ``cancel_matching``."""
        return await self._change("retry", where, after, dry_run=dry_run)

    async def resume_provider(self, name: str) -> Provider:
        """Resume a paused provider."""
        return cast(Provider, await self._connection.post(path_of("providers", name, "resume")))

    async def workers(self) -> list[Worker]:
        """Return every worker of the last 24 hours."""
        # One page holds all of them: this listing has no limit and no cursor.
        return cast(list[Worker], (await self._connection.get("/workers"))["items"])

    async def _change(self, change: str, where: RunFilter, after: UUID | None, *, dry_run: bool) -> BatchFigures:
        body = {**where, "after": str(after) if after else None, "dry_run": dry_run}
        return cast(BatchFigures, await self._connection.post(path_of("queue", change), body))
