"""Runs, with their artifacts, reviews and timelines."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from typing import Any, cast

from vm_webapp.client.connection import Connection, path_of
from vm_webapp.client.errors import ApiError
from vm_webapp.client.event_stream import EventStream
from vm_webapp.client.shapes import Budget, Event, Run, Writing

RECONNECT_SECONDS = 1.0
MAX_RECONNECT_SECONDS = 30.0  # whatever time the server asks for
EVENTS_AT_A_TIME = 200


class Runs:
    """The runs of an API. Every call raises as ``Connection.post``.

    Args:
        connection: the connection to the API.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def create(
        self,
        *,
        workflow: str,
        request: str,
        auto_approve: bool = False,
        brand_id: str | None = None,
        project_id: str | None = None,
        budget: Budget | None = None,
    ) -> Run:
        """Create a run and return it.

        Args:
            workflow: the workflow's name.
            request: the text of the request.
            auto_approve: whether drafts are approved without a review.
            brand_id: the brand that it writes for, None for that of the project, if that has one.
            project_id: the project that it belongs to, None for none.
            budget: what its calls may spend, None for any sum.
        """
        wanted = {
            "workflow": workflow,
            "request": request,
            "auto_approve": auto_approve,
            "brand_id": brand_id,
            "project_id": project_id,
            **_given(budget),
        }
        return cast(Run, await self._connection.post("/runs", wanted))

    async def read(self, run_id: str, *, wait_seconds: int = 0) -> Run:
        """Return the current state of a run.

        Args:
            run_id: the run.
            wait_seconds: how long the server waits for a change of the run's status before it responds.
        """
        wait = {"wait": wait_seconds or None}
        return cast(Run, await self._connection.get(path_of("runs", run_id), wait, wait_seconds=wait_seconds))

    async def cancel(self, run_id: str) -> Run:
        """Cancel a run and return it."""
        return cast(Run, await self._connection.post(path_of("runs", run_id, "cancel")))

    async def retry(self, run_id: str, *, from_stage: str | None = None, budget: Budget | None = None) -> Run:
        """Queue a failed run again and return it.

        Args:
            run_id: the run.
            from_stage: the key of the stage to begin with, None for the one that failed.
            budget: the run's budget from now on, None for the one that it has.
        """
        wanted = {"from_stage": from_stage, **_given(budget)}
        return cast(Run, await self._connection.post(path_of("runs", run_id, "retry"), wanted))

    async def approve(self, run_id: str, stage: str, *, artifact_sha256: str, content: str | None = None) -> Run:
        """Accept a draft.

        Args:
            run_id: the run.
            stage: the stage's key.
            artifact_sha256: the digest of the draft that was read; the API refuses if the draft has changed since.
            content: the edited text that replaces the draft, None to accept it unchanged.
        """
        edited = {} if content is None else {"content": content}
        return await self._decide(run_id, stage, "approve", {"artifact_sha256": artifact_sha256, **edited})

    async def request_changes(self, run_id: str, stage: str, *, artifact_sha256: str, feedback: str) -> Run:
        """Send a draft back; arguments as in ``approve``.

        Args:
            feedback: what should change.
        """
        body = {"artifact_sha256": artifact_sha256, "feedback": feedback}
        return await self._decide(run_id, stage, "request-changes", body)

    async def artifact(self, run_id: str, stage: str, *, version: int | None = None) -> bytes:
        """Return an artifact's content in UTF-8; by default its newest version."""
        return await self._connection.content(path_of("runs", run_id, "artifacts", stage), {"version": version})

    async def timeline(self, run_id: str) -> AsyncIterator[Event]:
        """Yield every event so far, oldest first."""
        path = path_of("runs", run_id, "events")
        async for event in self._connection.items(path, limit=EVENTS_AT_A_TIME, position="after"):
            yield cast(Event, event)

    def stream(self, run_id: str) -> EventStream:
        """Return the live timeline; it connects when it is read."""
        return EventStream(self._connection, run_id)

    async def follow(self, run_id: str) -> AsyncGenerator[Run | Writing, None]:
        """Yield a run now and after each of its events, and pieces of text while the model writes. It never ends.

        When the stream ends, breaks or is refused, it resumes after the last event, in a second or after the time that
        the server asks for.

        Raises:
            ApiError: the run cannot be read.
        """
        stream = self.stream(run_id)
        while True:
            # Also after each reconnect, so that no change is missed where streams never get through.
            yield await self.read(run_id)
            # aclosing: an async generator that is left early keeps its connection until it is garbage-collected.
            async with aclosing(_read_while_it_lasts(stream)) as notices:
                async for notice in notices:
                    yield await self.read(run_id) if "type" in notice else notice
            seconds = RECONNECT_SECONDS if stream.retry_seconds is None else stream.retry_seconds
            # A stream that broke and one that ended look alike here: the caller stops when the run's status is final.
            await asyncio.sleep(min(seconds, MAX_RECONNECT_SECONDS))

    async def _decide(self, run_id: str, stage: str, decision: str, body: dict[str, Any]) -> Run:
        return cast(Run, await self._connection.post(path_of("runs", run_id, "stages", stage, decision), body))


def _given(budget: Budget | None) -> dict[str, Any]:
    # Left out where there is none: an API of an earlier build knows no budgets and refuses the field.
    return {} if budget is None else {"budget": budget}


async def _read_while_it_lasts(stream: EventStream) -> AsyncGenerator[Event | Writing, None]:
    try:
        async with aclosing(stream.read()) as notices:
            async for notice in notices:
                yield notice
    except ApiError:
        # follow() reads the run before the next attempt, and that call raises if the API is gone for good.
        return
