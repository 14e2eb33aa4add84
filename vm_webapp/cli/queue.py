"""``queue``: show, pause and resume the queue, cancel and retry many runs; in the database or over an API."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from typing import Protocol, TypeVar
from uuid import UUID

from peewee import DatabaseError
from pydantic import TypeAdapter, ValidationError

from vm_webapp.access.actor import operator_at_terminal
from vm_webapp.cli.database import open_database
from vm_webapp.cli.output import as_called
from vm_webapp.client import ApiClient, open_api
from vm_webapp.client.errors import ApiError
from vm_webapp.client.health import Readiness
from vm_webapp.client.shapes import RunFilter
from vm_webapp.errors import ConfigurationError, DatabaseBusy, VMError
from vm_webapp.ops import bulk, queue_control
from vm_webapp.ops.bulk import BulkFilter, BulkResult
from vm_webapp.ops.health import HealthChecker
from vm_webapp.ops.queue_control import QueueStatus
from vm_webapp.ops.standstill import why_full, why_nothing_moves
from vm_webapp.settings import Settings
from vm_webapp.text import plural
from vm_webapp.workflows.loader import load_catalog

Shape = TypeVar("Shape")

MAX_SHOWN = 10
REMOTE_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class QueueOptions:
    """The options of the command line.

    Attributes:
        action: ``status``, ``pause``, ``resume``, ``cancel``, ``retry`` or ``resume-provider``.
        provider: the provider to resume, None with any other action.
        base_url: a running API, None to work on the database of the settings.
    """

    action: str
    provider: str | None
    reason: str | None
    where: BulkFilter
    dry_run: bool
    base_url: str | None


class Queue(Protocol):
    """The queue, in the database or behind an API."""

    def status(self) -> QueueStatus:
        """Return its figures."""

    def causes(self) -> list[str]:
        """Return why nothing moves, as far as readiness knows; empty where work can progress."""

    def pause(self, reason: str | None) -> None:
        """Pause claiming."""

    def resume(self) -> None:
        """Resume claiming."""

    def change(self, action: str, where: BulkFilter, *, after: UUID | None, dry_run: bool) -> BulkResult:
        """Cancel or retry a batch of runs."""

    def resume_provider(self, name: str) -> bool:
        """Resume a provider; return whether it was paused."""


def run_queue(settings: Settings, options: QueueOptions) -> int:
    """Execute the action and print its result; return the exit code."""
    if options.base_url is not None:
        return _do(_Remote(options.base_url, settings.api_token), options)
    with open_database(settings) as redis_url, _sending_hints(options.action, redis_url):
        return _do(_Direct(settings, redis_url), options)


@contextmanager
def _sending_hints(action: str, redis_url: str | None) -> Iterator[None]:
    """Send hints, the Dramatiq messages that say that a stage may be due, if the action makes stages due."""
    if action != "retry":
        yield
        return
    from actors import connected

    with ExitStack() as stack:
        # A wrong VM_REDIS_URL must not stop an operator during an incident: workers also find the stages by polling.
        with suppress(ValueError, TypeError):
            stack.enter_context(connected(redis_url))
        yield


def _do(queue: Queue, options: QueueOptions) -> int:
    if options.action == "pause":
        queue.pause(options.reason)
    elif options.action == "resume":
        queue.resume()
    elif options.action == "resume-provider":
        assert options.provider is not None
        print(f"{options.provider} {'is resumed' if queue.resume_provider(options.provider) else 'was not paused'}")
        return 0
    elif options.action in ("cancel", "retry"):
        return _change_all(queue, options)
    return _show_with_causes(queue)


def _show_with_causes(queue: Queue) -> int:
    """Print why nothing moves, and the figures; return 1 if what stops the queue keeps the figures from being read."""
    causes = queue.causes()
    try:
        status = queue.status()
    except (VMError, DatabaseError) as error:
        if not causes or not _is_explained(error):
            raise
        _print_lines([*causes, "the figures cannot be read"])
        return 1
    _show(status, [*causes, *filter(None, [why_full(status)])])
    return 0


def _is_explained(error: VMError | DatabaseError) -> bool:
    """Whether readiness says more of why the figures cannot be read than the error itself: a lock, a schema."""
    if isinstance(error, ApiError):
        return error.response is not None and error.response.status == 503
    return isinstance(error, DatabaseError | DatabaseBusy)


def _print_lines(lines: Iterable[str]) -> None:
    for line in lines:
        print(as_called(line))


def _change_all(queue: Queue, options: QueueOptions) -> int:
    """Cancel or retry all matching runs, batch by batch."""
    # By position rather than until nothing matches: a run that was retried may fail again and match for ever.
    done = queue.change(options.action, options.where, after=None, dry_run=options.dry_run)
    if options.dry_run:
        _show_matching(options.action, done)
        return 0
    changed, busy = done.changed, done.busy
    while done.next_after is not None:
        done = queue.change(options.action, options.where, after=done.next_after, dry_run=False)
        changed += done.changed
        busy += done.busy
    print(f"{'canceled' if options.action == 'cancel' else 'retried'} {plural(changed, 'run')}")
    if busy:
        print(f"{plural(busy, 'run')} {'was' if busy == 1 else 'were'} busy at that moment: run the command again")
        return 1
    return 0


def _show_matching(action: str, done: BulkResult) -> None:
    shown = done.run_ids[:MAX_SHOWN]
    print(f"would {action} {plural(done.matched, 'run')}{':' if shown else ''}")
    for run_id in shown:
        print(f"  {run_id}")
    if done.matched > len(shown):
        print(f"  and {done.matched - len(shown)} more")


def _show(status: QueueStatus, causes: Iterable[str]) -> None:
    if status.paused:
        reason = f": {status.reason}" if status.reason else ""
        print(as_called(f"paused by {status.paused_by}{reason}; python -m vm_webapp queue resume claims again"))
    _print_lines(causes)
    oldest = f", the oldest for {status.oldest_due_seconds:.1f} s" if status.due else ""
    print(f"queued    {status.queued} ({status.due} due{oldest})")
    print(f"running   {status.running}")
    print(f"workers   {status.workers}{f' ({status.draining} more are draining)' if status.draining else ''}")
    print(f"desired   {status.desired_workers} ({status.autoscale.reason})")
    print(f"slots     {status.slots} ({status.in_flight} in use)")


class _Direct:
    """The queue in the configured database."""

    def __init__(self, settings: Settings, redis_url: str | None) -> None:
        self._settings = settings
        self._redis_url = redis_url
        self._actor = operator_at_terminal()

    def status(self) -> QueueStatus:
        return queue_control.read_queue()

    def causes(self) -> list[str]:
        health = HealthChecker(self._settings, self._redis_url).check()
        return why_nothing_moves(health.reasons, health.dependencies)

    def pause(self, reason: str | None) -> None:
        queue_control.pause_queue(reason=reason, actor=self._actor)

    def resume(self) -> None:
        queue_control.resume_queue(actor=self._actor)

    def change(self, action: str, where: BulkFilter, *, after: UUID | None, dry_run: bool) -> BulkResult:
        change: dict[str, Callable[..., BulkResult]] = {"cancel": bulk.cancel_matching, "retry": bulk.retry_matching}
        workflows = load_catalog(self._settings.workflows_path).workflows
        return change[action](where, actor=self._actor, after=after, dry_run=dry_run, workflows=workflows)

    def resume_provider(self, name: str) -> bool:
        return queue_control.resume_provider(name, actor=self._actor)


@dataclass(frozen=True, slots=True)
class _Resumed:
    """The response to ``resume_provider``."""

    resumed: bool


class _Remote:
    """The queue behind an API."""

    def __init__(self, base_url: str, token: str | None) -> None:
        self._base_url = base_url
        self._token = token

    def status(self) -> QueueStatus:
        return self._call(QueueStatus, lambda client: client.queue.status())

    def causes(self) -> list[str]:
        async def once() -> Readiness:
            async with open_api(self._base_url, self._token, timeout_seconds=REMOTE_SECONDS) as client:
                return await client.health.ready()

        # What does not respond, or is not this API, is reported by the call that reads the figures.
        try:
            readiness = asyncio.run(once())
        except ApiError:
            return []
        return why_nothing_moves(readiness.reasons, readiness.dependencies or {})

    def pause(self, reason: str | None) -> None:
        self._call(QueueStatus, lambda client: client.queue.pause(reason))

    def resume(self) -> None:
        self._call(QueueStatus, lambda client: client.queue.resume())

    def change(self, action: str, where: BulkFilter, *, after: UUID | None, dry_run: bool) -> BulkResult:
        runs = RunFilter(status=where.status, workflow=where.workflow, older_than_seconds=where.older_than_seconds)

        def change(client: ApiClient) -> Awaitable[object]:
            changes = {"cancel": client.queue.cancel_matching, "retry": client.queue.retry_matching}
            return changes[action](runs, after=after, dry_run=dry_run)

        return self._call(BulkResult, change)

    def resume_provider(self, name: str) -> bool:
        return self._call(_Resumed, lambda client: client.queue.resume_provider(name)).resumed

    def _call(self, shape: type[Shape], call: Callable[[ApiClient], Awaitable[object]]) -> Shape:
        async def once() -> object:
            async with open_api(self._base_url, self._token, timeout_seconds=REMOTE_SECONDS) as client:
                return await call(client)

        try:
            # Validated here, because the client does not: figures of another version would be printed as wrong ones.
            return TypeAdapter(shape).validate_python(asyncio.run(once()))
        except ValidationError as error:
            wrong = error.errors()[0]
            field = ".".join(str(part) for part in wrong["loc"])
            raise ConfigurationError(
                f"{self._base_url} is not this API, or another version of it: {field}: {wrong['msg'].lower()}"
            ) from error
