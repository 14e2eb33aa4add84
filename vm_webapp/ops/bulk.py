"""Bulk commands: cancel, retry or archive all runs that match a filter.

A batch is one transaction that locks many runs and never waits for a lock: a run that another transaction has locked is
skipped and counted as busy. So a batch cannot deadlock.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from uuid import UUID

from peewee import Expression, ModelSelect, Select, fn

from vm_webapp.access.actor import Actor
from vm_webapp.access.audit import record_all
from vm_webapp.db.compiled import COUNT, NO_KEY_UPDATE, SECOND, compiled, param
from vm_webapp.db.models import Run, Stage
from vm_webapp.db.pool import database, execute, row, rows, transaction
from vm_webapp.errors import InvalidInput
from vm_webapp.runs.lifecycle import cancel_run_if_open, retry_run_if_failed
from vm_webapp.runs.records import RunStatus

# A batch holds its locks for some tenths of a second. Lease renewal skips locked stages, so this must stay far below
# the length of a lease.
BATCH = 100
OPEN: tuple[RunStatus, ...] = ("queued", "running", "waiting_approval")
CANCELABLE: tuple[RunStatus, ...] = (*OPEN, "failed")
FINAL: tuple[RunStatus, ...] = ("completed", "failed", "canceled")


_OF_WORKFLOW = compiled(Run.select(Run.id).where(Run.workflow == param("workflow")).limit(1))
_OF_THESE = Stage.run == fn.ANY(param("ids").cast("uuid[]"))
_COUNTED = COUNT.alias("n")
_COUNT_STAGES = compiled(Stage.select(Stage.run, _COUNTED).where(_OF_THESE).group_by(Stage.run))
_FREE = Stage.select(Stage.id, Stage.run).where(_OF_THESE).for_update(skip_locked=True).alias("free")
_THESE = Run.id == fn.ANY(param("ids").cast("uuid[]"))
_ARCHIVE = compiled(Run.update({Run.archived_at: fn.now()}).where(_THESE))
_UNARCHIVE = compiled(Run.update({Run.archived_at: None}).where(_THESE))
_LOCK_STAGES = compiled(Select([_FREE], [_FREE.c.run_id, _COUNTED]).group_by(_FREE.c.run_id).bind(database))


@dataclass(frozen=True, slots=True)
class BulkFilter:
    """Which runs. At least one field must be given: an empty filter, which would match every run, is refused."""

    status: RunStatus | None = None
    workflow: str | None = None
    older_than_seconds: float | None = None
    run_ids: tuple[UUID, ...] | None = None


@dataclass(frozen=True, slots=True)
class BulkResult:
    """The result of a batch.

    Attributes:
        matched: runs that matched before it, of those after ``after``.
        changed: runs that it changed.
        busy: runs of the batch that another transaction had locked; run the command again for them.
        run_ids: the runs changed; in a dry run, the runs that the first batch would change.
        next_after: ``after`` for the next batch; None when nothing is left.
    """

    matched: int
    changed: int
    busy: int
    run_ids: tuple[UUID, ...]
    next_after: UUID | None


def cancel_matching(
    where: BulkFilter,
    *,
    actor: Actor,
    after: UUID | None = None,
    dry_run: bool = False,
    workflows: Collection[str] = (),
) -> BulkResult:
    """Cancel up to a hundred runs, oldest first. Failed runs are skipped unless the filter names that status.

    Args:
        where: which runs.
        actor: who gave the command, for the runs' timelines.
        after: ``next_after`` of the batch before, so that no run is handled twice and none is left out.
        dry_run: only return which runs match.
        workflows: names of the loaded workflows; a filter may name one of them although it has no run yet.

    Raises:
        InvalidInput: the filter is empty, its status is one that cannot be canceled, or its workflow is unknown.
    """
    if where.status is not None and where.status not in CANCELABLE:
        raise InvalidInput(f"a run that is {where.status} cannot be canceled", pointer="/status")

    def cancel(run_ids: list[UUID]) -> None:
        for run_id in run_ids:
            cancel_run_if_open(run_id, actor=actor)

    _check(where, workflows)
    return _change(where, OPEN, cancel, after=after, dry_run=dry_run)


def retry_matching(
    where: BulkFilter,
    *,
    actor: Actor,
    after: UUID | None = None,
    dry_run: bool = False,
    workflows: Collection[str] = (),
) -> BulkResult:
    """Retry up to a hundred failed runs from the stage that failed, oldest first.

    The arguments are those of ``cancel_matching``.

    Raises:
        InvalidInput: the filter is empty, its status is not ``failed``, or its workflow is unknown.
    """
    if where.status not in (None, "failed"):
        raise InvalidInput("only failed runs can be retried", pointer="/status")

    def retry(run_ids: list[UUID]) -> None:
        for run_id in run_ids:
            retry_run_if_failed(run_id, from_stage=None, actor=actor)

    _check(where, workflows)
    return _change(where, ("failed",), retry, after=after, dry_run=dry_run)


def archive_matching(
    where: BulkFilter,
    *,
    archived: bool,
    actor: Actor,
    after: UUID | None = None,
    dry_run: bool = False,
    workflows: Collection[str] = (),
) -> BulkResult:
    """Archive up to a hundred runs that are final, or bring archived ones back into lists, oldest first.

    Args:
        where: which runs.
        archived: whether to archive them; False brings them back.
        actor: who gave the command, for the audit trail.
        after: as for ``cancel_matching``.
        dry_run: only return which runs match.
        workflows: as for ``cancel_matching``.

    Raises:
        InvalidInput: the filter is empty, its status is not final, or its workflow is unknown.
    """
    if where.status is not None and where.status not in FINAL:
        raise InvalidInput(f"a run that is {where.status} cannot be archived", pointer="/status")
    _check(where, workflows)
    action, update = ("run.archive", _ARCHIVE) if archived else ("run.unarchive", _UNARCHIVE)

    def archive(run_ids: list[UUID]) -> None:
        execute(update, ids=run_ids)
        if run_ids:
            record_all(actor, action, [(f"run:{run_id}", {}) for run_id in run_ids])

    return _change(where, FINAL, archive, Run.archived_at.is_null(archived), after=after, dry_run=dry_run)


def _check(where: BulkFilter, workflows: Collection[str]) -> None:
    if where == BulkFilter():
        raise InvalidInput("say which runs: by status, workflow, age or id")
    if where.workflow is None or where.workflow in workflows:
        return
    # A workflow that is no longer loaded may still have runs.
    with transaction():
        if row(_OF_WORKFLOW, workflow=where.workflow) is None:
            known = f"; known: {', '.join(workflows)}" if workflows else ""
            raise InvalidInput(f"there is no workflow {where.workflow!r}, nor a run of one{known}", pointer="/workflow")


def _change(
    where: BulkFilter,
    statuses: tuple[RunStatus, ...],
    change: Callable[[list[UUID]], None],
    *conditions: Expression,
    after: UUID | None,
    dry_run: bool,
) -> BulkResult:
    matching = Run.select().where(*_conditions(where, statuses, after), *conditions)
    with transaction():
        matched = rows(compiled(matching.select(_COUNTED)))[0]["n"]
        found = rows(compiled(matching.select(Run.id).order_by(Run.id).limit(BATCH + 1)))
        first = [each["id"] for each in found[:BATCH]]
        next_after = first[-1] if len(found) > BATCH else None
        if dry_run:
            return BulkResult(matched, 0, 0, tuple(first), next_after)
        free = _lock_free_runs(first, matching)
        change(free)
    return BulkResult(
        matched=matched,
        changed=len(free),
        busy=len(first) - len(free),
        run_ids=tuple(free),
        next_after=next_after,
    )


def _conditions(where: BulkFilter, statuses: tuple[RunStatus, ...], after: UUID | None) -> Iterator[Expression]:
    yield Run.status.in_((where.status,) if where.status else statuses)
    if after is not None:
        yield Run.id > after  # UUIDv7: keys sort by age
    if where.run_ids is not None:
        yield Run.id.in_(where.run_ids)
    if where.workflow is not None:
        yield Run.workflow == where.workflow
    if where.older_than_seconds is not None:
        yield Run.created_at < fn.now() - where.older_than_seconds * SECOND


def _lock_free_runs(run_ids: list[UUID], matching: ModelSelect[Run]) -> list[UUID]:
    """Lock runs and then their stages; return those of which neither the run nor any stage was locked already."""
    # The filter is applied again, because a run may have changed since its id was read.
    still = matching.select(Run.id).where(Run.id.in_(run_ids))
    locked = rows(compiled(still.for_update(NO_KEY_UPDATE, skip_locked=True)))
    mine = [found["id"] for found in locked]
    # A renewal locks stages without their runs, so a run that could be locked may have a stage that could not.
    free = {found["run_id"]: found["n"] for found in rows(_LOCK_STAGES, ids=mine)}
    whole = {found["run_id"]: found["n"] for found in rows(_COUNT_STAGES, ids=mine)}
    return [run_id for run_id in run_ids if run_id in free and free[run_id] == whole[run_id]]
