"""Many runs at once: cancel or retry whatever matches a filter.

A batch is one transaction that never waits for a lock: what somebody else holds in that moment is left out and
counted. So it cannot close a circle with a renewal, which locks the stages of several runs in an order of its own.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from uuid import UUID

from vm_webapp.db.pool import row, rows, transaction
from vm_webapp.errors import InvalidInput
from vm_webapp.runs.lifecycle import cancel_run_if_open, retry_run_if_failed
from vm_webapp.runs.records import RunStatus

BATCH = 100  # what it holds it holds for some tenths of a second: renewals of those stages wait for it
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
        matched: runs that matched before it.
        changed: runs that it changed.
        busy: runs of the batch that somebody else was changing; ask again.
        run_ids: the runs changed, or those that would be changed first.
        due: stages that are due now, to ring for.
    """

    matched: int
    changed: int
    busy: int
    run_ids: tuple[UUID, ...]
    due: tuple[UUID, ...] = ()


def cancel_matching(where: BulkFilter, *, actor: str, dry_run: bool = False) -> BulkResult:
    """Cancel up to a hundred runs, oldest first. Failed runs are left alone unless the filter names that status.

    Raises:
        InvalidInput: the filter is empty, or its status is one that cannot be canceled.
    """
    if where.status is not None and where.status not in CANCELABLE:
        raise InvalidInput(f"a run that is {where.status} cannot be canceled", pointer="/status")

    def cancel(run_id: UUID) -> None:
        cancel_run_if_open(run_id, actor=actor)

    return _change(where, OPEN, cancel, dry_run=dry_run)


def retry_matching(where: BulkFilter, *, actor: str, dry_run: bool = False) -> BulkResult:
    """Put up to a hundred failed runs back to work from the stage that failed, oldest first.

    Raises:
        InvalidInput: the filter is empty, or its status is not ``failed``.
    """
    if where.status not in (None, "failed"):
        raise InvalidInput("only failed runs can be retried", pointer="/status")

    def retry(run_id: UUID) -> UUID:
        return retry_run_if_failed(run_id, from_stage=None, actor=actor)

    return _change(where, ("failed",), retry, dry_run=dry_run)


def _change(
    where: BulkFilter, statuses: tuple[RunStatus, ...], change: Callable[[UUID], UUID | None], *, dry_run: bool
) -> BulkResult:
    if where == BulkFilter():
        raise InvalidInput("say which runs: by status, workflow or age")
    condition, values = _condition(where, statuses)
    with transaction():
        counted = row(f"SELECT count(*) AS n FROM runs WHERE {condition}", **values)
        assert counted is not None
        first = [
            found["id"]
            for found in rows(
                f"SELECT id FROM runs WHERE {condition} ORDER BY created_at, id LIMIT %(batch)s", batch=BATCH, **values
            )
        ]
        if dry_run:
            return BulkResult(counted["n"], 0, 0, tuple(first))
        free = _lock_what_is_free(first, condition, values)
        due = [change(run_id) for run_id in free]
    return BulkResult(
        counted["n"], len(free), len(first) - len(free), tuple(free), tuple(each for each in due if each is not None)
    )


def _condition(where: BulkFilter, statuses: tuple[RunStatus, ...]) -> tuple[str, dict[str, object]]:
    parts = ["status = ANY(%(statuses)s)"]
    if where.workflow is not None:
        parts.append("workflow = %(workflow)s")
    if where.older_than_seconds is not None:
        parts.append("created_at < now() - %(age)s * interval '1 second'")
    values: dict[str, object] = {
        "statuses": [where.status] if where.status else list(statuses),
        "workflow": where.workflow,
        "age": where.older_than_seconds,
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
