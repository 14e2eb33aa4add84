"""Many runs at once: cancel or retry whatever matches a filter.

A batch is one transaction that never waits for a lock: what somebody else holds in that moment is left out and
counted. So it cannot close a circle with somebody who waits for one of its runs and holds what it wants next.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from uuid import UUID

from vm_webapp.db.pool import row, rows, transaction
from vm_webapp.errors import InvalidInput
from vm_webapp.runs.lifecycle import cancel_run_if_open, retry_run_if_failed
from vm_webapp.runs.records import RunStatus

BATCH = 100  # what it holds it holds for some tenths of a second: renewals pass those stages by meanwhile
OPEN: tuple[RunStatus, ...] = ("queued", "running", "waiting_approval")
CANCELABLE: tuple[RunStatus, ...] = (*OPEN, "failed")


@dataclass(frozen=True, slots=True)
class BulkFilter:
    """Which runs; at least one of these must be given, so that nobody means everything by saying nothing."""

    status: RunStatus | None = None
    workflow: str | None = None
    older_than_seconds: float | None = None


@dataclass(frozen=True, slots=True)
class BulkResult:
    """What a batch did.

    Attributes:
        matched: runs that matched before it, of those after ``after``.
        changed: runs that it changed.
        busy: runs of the batch that somebody else was changing; begin again for them.
        run_ids: the runs changed, or those that would be changed first.
        next_after: where the next batch goes on; None when nothing is left.
    """

    matched: int
    changed: int
    busy: int
    run_ids: tuple[UUID, ...]
    next_after: UUID | None


def cancel_matching(
    where: BulkFilter,
    *,
    actor: str,
    after: UUID | None = None,
    dry_run: bool = False,
    workflows: Collection[str] = (),
) -> BulkResult:
    """Cancel up to a hundred runs, oldest first. Failed runs are left alone unless the filter names that status.

    Args:
        where: which runs.
        actor: who does it, for their timelines.
        after: ``next_after`` of the batch before, so that no run comes twice and none is left out.
        dry_run: only say which.
        workflows: those that can be run: a filter may name one of which there is no run.

    Raises:
        InvalidInput: the filter is empty, its status is one that cannot be canceled, or its workflow is unknown.
    """
    if where.status is not None and where.status not in CANCELABLE:
        raise InvalidInput(f"a run that is {where.status} cannot be canceled", pointer="/status")

    def cancel(run_id: UUID) -> None:
        cancel_run_if_open(run_id, actor=actor)

    _check(where, workflows)
    return _change(where, OPEN, cancel, after=after, dry_run=dry_run)


def retry_matching(
    where: BulkFilter,
    *,
    actor: str,
    after: UUID | None = None,
    dry_run: bool = False,
    workflows: Collection[str] = (),
) -> BulkResult:
    """Put up to a hundred failed runs back to work from the stage that failed, oldest first.

    The arguments are those of ``cancel_matching``.

    Raises:
        InvalidInput: the filter is empty, its status is not ``failed``, or its workflow is unknown.
    """
    if where.status not in (None, "failed"):
        raise InvalidInput("only failed runs can be retried", pointer="/status")

    def retry(run_id: UUID) -> None:
        retry_run_if_failed(run_id, from_stage=None, actor=actor)

    _check(where, workflows)
    return _change(where, ("failed",), retry, after=after, dry_run=dry_run)


def _check(where: BulkFilter, workflows: Collection[str]) -> None:
    if where == BulkFilter():
        raise InvalidInput("say which runs: by status, workflow or age")
    if where.workflow is None or where.workflow in workflows:
        return
    with transaction():
        if row("SELECT 1 AS found FROM runs WHERE workflow = %(workflow)s LIMIT 1", workflow=where.workflow) is None:
            known = f"; known: {', '.join(workflows)}" if workflows else ""
            raise InvalidInput(f"there is no workflow {where.workflow!r}, nor a run of one{known}", pointer="/workflow")


def _change(
    where: BulkFilter,
    statuses: tuple[RunStatus, ...],
    change: Callable[[UUID], None],
    *,
    after: UUID | None,
    dry_run: bool,
) -> BulkResult:
    condition, values = _condition(where, statuses, after)
    with transaction():
        counted = row(f"SELECT count(*) AS n FROM runs WHERE {condition}", **values)
        assert counted is not None
        found = rows(f"SELECT id FROM runs WHERE {condition} ORDER BY id LIMIT %(most)s", most=BATCH + 1, **values)
        first = [each["id"] for each in found[:BATCH]]
        next_after = first[-1] if len(found) > BATCH else None
        if dry_run:
            return BulkResult(counted["n"], 0, 0, tuple(first), next_after)
        free = _lock_what_is_free(first, condition, values)
        for run_id in free:
            change(run_id)
    return BulkResult(
        matched=counted["n"],
        changed=len(free),
        busy=len(first) - len(free),
        run_ids=tuple(free),
        next_after=next_after,
    )


def _condition(where: BulkFilter, statuses: tuple[RunStatus, ...], after: UUID | None) -> tuple[str, dict[str, object]]:
    parts = ["status = ANY(%(statuses)s)"]
    if after is not None:
        parts.append("id > %(after)s")  # keys sort by age
    if where.workflow is not None:
        parts.append("workflow = %(workflow)s")
    if where.older_than_seconds is not None:
        parts.append("created_at < now() - %(age)s * interval '1 second'")
    values: dict[str, object] = {
        "statuses": [where.status] if where.status else list(statuses),
        "workflow": where.workflow,
        "age": where.older_than_seconds,
        "after": after,
    }
    return " AND ".join(parts), values


def _lock_what_is_free(run_ids: list[UUID], condition: str, values: dict[str, object]) -> list[UUID]:
    """Lock the runs and then their stages, leaving out every run of which something is locked already."""
    locked = rows(
        f"SELECT id FROM runs WHERE id = ANY(%(ids)s::uuid[]) AND {condition} FOR NO KEY UPDATE SKIP LOCKED",
        ids=run_ids,
        **values,
    )
    mine = {found["id"] for found in locked}
    stages = rows(
        "SELECT run_id, count(*) AS n FROM (SELECT run_id FROM stages WHERE run_id = ANY(%(ids)s::uuid[])"
        " FOR UPDATE SKIP LOCKED) free GROUP BY run_id",
        ids=list(mine),
    )
    all_stages = rows(
        "SELECT run_id, count(*) AS n FROM stages WHERE run_id = ANY(%(ids)s::uuid[]) GROUP BY run_id", ids=list(mine)
    )
    whole = {found["run_id"]: found["n"] for found in all_stages}
    free = {found["run_id"] for found in stages if found["n"] == whole[found["run_id"]]}
    return [run_id for run_id in run_ids if run_id in free]
