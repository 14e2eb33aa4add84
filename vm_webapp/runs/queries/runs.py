"""Reads runs with their stages, what they have spent and what they wait for."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from decimal import Decimal
from uuid import UUID

from peewee import JOIN, SQL, Select, fn

from vm_webapp.db.compiled import param
from vm_webapp.db.models import Artifact, Run, Stage
from vm_webapp.db.pool import Row, rows
from vm_webapp.db.prepared import prepared
from vm_webapp.runs.admission import due
from vm_webapp.runs.artifacts import newest_of
from vm_webapp.runs.budget import budget_of
from vm_webapp.runs.queries.known import Known, KnownRuns, digests_of
from vm_webapp.runs.queries.reading import no_run, read_only
from vm_webapp.runs.records import (
    ArtifactSummary,
    ErrorRecord,
    Progress,
    Reading,
    RunRecord,
    Spent,
    StageRecord,
    Usage,
    WaitingOn,
)
from vm_webapp.runs.waiting import QueuedStage, QueueFacts, read_facts, why_queued

# ``admission.due`` is SQL text that names its row by an alias, so the query needs one too.
_S = Stage.alias("s")
_NEWEST = newest_of(
    _S.id,
    Artifact.version,
    Artifact.name,
    Artifact.sha256,
    Artifact.size,
    Artifact.truncated,
    Artifact.note,
    Artifact.provider,
    Artifact.model,
    Artifact.created_at,
).alias("newest")
# Over all versions: a version that was replaced has been paid for as well.
_SPENT = (
    Artifact.select(
        fn.sum(Artifact.prompt_tokens).alias("prompt_tokens"),
        fn.sum(Artifact.completion_tokens).alias("completion_tokens"),
    )
    .where(Artifact.stage == _S.id)
    .alias("spent")
)
_SHOWN = (
    _S.select(
        _S.run,
        _S.key,
        _S.title,
        _S.position,
        _S.status,
        _S.attempt,
        _S.requires_approval,
        _S.needs_model,
        _S.available_at,
        SQL(due("s")).alias("due"),
        _S.queued_at,
        _S.started_at,
        _S.finished_at,
        _S.error,
        _S.spent_money,
        _S.spent_estimated,
        fn.coalesce(_NEWEST.c.provider, _S.provider).alias("provider"),
        _NEWEST.c.model,
        _NEWEST.c.version,
        _NEWEST.c.name,
        _NEWEST.c.sha256,
        _NEWEST.c.size,
        _NEWEST.c.truncated,
        _NEWEST.c.note,
        _NEWEST.c.created_at.alias("drafted_at"),
        (fn.coalesce(_SPENT.c.prompt_tokens, 0) + _S.failed_prompt_tokens).alias("prompt_tokens"),
        (fn.coalesce(_SPENT.c.completion_tokens, 0) + _S.failed_completion_tokens).alias("completion_tokens"),
    )
    .join(_NEWEST, JOIN.LEFT_LATERAL, on=SQL("true"))
    .join_from(_S, _SPENT, JOIN.LEFT_LATERAL, on=SQL("true"))
)
# Of all that is shown of a stage: equal ones mean that nothing has changed.
_DIGEST = fn.hash_record_extended(SQL("shown"), SQL("0"))
_OF_RUNS = _SHOWN.where(_S.run == fn.ANY(param("run_ids").cast("uuid[]"))).alias("shown")
_STAGES = prepared(_OF_RUNS.select_from(SQL("shown.*"), _DIGEST.alias("digest")).order_by(_OF_RUNS.c.position))
# The snapshot is left out: it holds the whole workflow, brand and project, and no response contains them.
SHOWN = Run.select(
    Run.id,
    Run.workflow,
    Run.status,
    Run.priority,
    Run.request,
    Run.four_eyes,
    Run.brand,
    Run.project,
    Run.parent_run,
    Run.error,
    Run.created_at,
    Run.started_at,
    Run.finished_at,
    Run.budget_tokens,
    Run.budget_money,
    Run.archived_at,
)
"""What is shown of a run itself."""


def _digested(found: Select, *columns: str) -> Select:
    run = found.alias("run")
    of_run = _SHOWN.where(_S.run == run.c.id).alias("shown")
    digests = of_run.select_from(fn.array_agg(_DIGEST).order_by(of_run.c.position))
    digest = fn.hash_record_extended(SQL("run"), SQL("0"))
    return run.select_from(*(SQL(f"run.{name}") for name in columns), digest.alias("digest"), digests.alias("digests"))


def heads_of(found: Select) -> Select:
    """Return the query for the heads of the runs that a query of ``SHOWN`` finds, in any order.

    A head has ``id``, ``created_at``, ``finished_at``, and the digests of what is shown of the run and of its stages.
    """
    return _digested(found, "id", "created_at", "finished_at")


_ONE = prepared(_digested(SHOWN.where(Run.id == param("id")), "*"))
_MANY = prepared(_digested(SHOWN.where(Run.id == fn.ANY(param("ids").cast("uuid[]"))), "*"))
_known = KnownRuns()


def read_run(run_id: UUID) -> RunRecord:
    """Return a run with its stages, inside the current transaction.

    Raises:
        NotFound: there is no such run.
    """
    found = _with_stages(rows(_ONE, id=run_id))
    if not found:
        raise no_run(run_id)
    return found[0]


get_run = read_only(read_run)


@read_only
def read_runs(run_ids: Collection[UUID]) -> list[RunRecord]:
    """Return runs with their stages, in the order of their ids' list; those that do not exist are left out."""
    found = {run.id: run for run in _with_stages(rows(_MANY, ids=list(run_ids)))}
    return [found[id] for id in run_ids if id in found]


def read_page(heads: Sequence[Row]) -> list[RunRecord]:
    """Return the runs of these heads, with their stages and what they wait for; those that were purged are left out.

    Two statements are sent for all that have changed since they were read last, and one for all that are queued.
    """
    return _records(heads, lambda changed: rows(_MANY, ids=[head["id"] for head in changed]))


def _with_stages(found: Sequence[Row]) -> list[RunRecord]:
    return _records(found, lambda changed: changed)


def _records(found: Sequence[Row], read: Callable[[Sequence[Row]], Sequence[Row]]) -> list[RunRecord]:
    """Return the runs of rows that have at least digests; ``read`` returns the whole rows of those that changed."""
    known = {run["id"]: each for run in found if (each := _known.find(run)) is not None}
    if changed := [run for run in found if run["id"] not in known]:
        known |= _read(read(changed))
    return _as_they_wait([known[run["id"]] for run in found if run["id"] in known])


def _read(found: Sequence[Row]) -> dict[UUID, Known]:
    # A run may be purged between these statements; it is shown without stages then, and not as an error.
    stages = _stages([run["id"] for run in found])
    return {run["id"]: _put_together(run, stages.get(run["id"], [])) for run in found}


def _as_they_wait(found: Sequence[Known]) -> list[RunRecord]:
    queued = [each.queued.run_id for each in found if each.queued is not None]
    facts = read_facts(queued) if queued else None
    return [_as_it_waits(each, facts) for each in found]


def _put_together(run: Row, stages: list[Row]) -> Known:
    record, queued, waiting_on = _run(run, stages), None, None
    for stage in stages:  # a run has at most one stage that waits
        if stage["status"] == "waiting_approval":
            detail = f"the draft of {stage['title']} waits for a person"
            waiting_on = WaitingOn("approval", detail, stage["drafted_at"])
        elif stage["status"] == "queued":
            queued = QueuedStage(
                stage["run_id"],
                stage["title"],
                stage["needs_model"],
                stage["queued_at"],
                stage["available_at"],
                stage["error"]["message"] if stage["error"] else None,
                stage["due"],
            )
    known = Known(digests_of(run), record, queued, waiting_on)
    # Unless the stages have changed since the statement that read the run.
    if run["digests"] == [stage["digest"] for stage in stages]:
        _known.note(known)
    return known


def _as_it_waits(known: Known, facts: QueueFacts | None) -> RunRecord:
    waiting_on = known.waiting_on
    if known.queued is not None and facts is not None:
        waiting_on = why_queued(known.queued, facts)
    return known.record.as_it_waits(waiting_on) if waiting_on else known.record


def _stages(run_ids: list[UUID]) -> dict[UUID, list[Row]]:
    """Read the stages of many runs with their newest artifact and what all their calls cost."""
    grouped: dict[UUID, list[Row]] = {}
    found = rows(_STAGES, run_ids=run_ids)
    for stage in found:
        grouped.setdefault(stage["run_id"], []).append(stage)
    return grouped


def _run(run: Row, stages: list[Row]) -> RunRecord:
    records = tuple(_stage(stage) for stage in stages)
    return RunRecord(
        id=run["id"],
        workflow=run["workflow"],
        status=run["status"],
        priority="low" if run["priority"] else "normal",
        request=run["request"],
        four_eyes=run["four_eyes"],
        brand_id=run["brand_id"],
        project_id=run["project_id"],
        parent_run_id=run["parent_run_id"],
        created_at=run["created_at"],
        started_at=run["started_at"],
        finished_at=run["finished_at"],
        archived_at=run["archived_at"],
        error=_error(run["error"]),
        progress=Progress(sum(stage.status == "completed" for stage in records), len(records)),
        usage=Usage(
            sum(stage.usage.prompt_tokens for stage in records),
            sum(stage.usage.completion_tokens for stage in records),
            any(stage.usage.uncounted for stage in records),
        ),
        cost=_sum_of(records),
        budget=budget_of(run["budget_tokens"], run["budget_money"]),
        stages=records,
        reading=Reading(),
    )


def _stage(stage: Row) -> StageRecord:
    return StageRecord(
        key=stage["key"],
        title=stage["title"],
        position=stage["position"],
        status=stage["status"],
        attempt=stage["attempt"],
        requires_approval=stage["requires_approval"],
        available_at=stage["available_at"],
        queued_at=stage["queued_at"],
        started_at=stage["started_at"],
        finished_at=stage["finished_at"],
        error=_error(stage["error"]),
        provider=stage["provider"],  # of the newest artifact, which a person may have edited; else of the attempt
        model=stage["model"],
        usage=Usage(stage["prompt_tokens"], stage["completion_tokens"], uncounted=stage["spent_estimated"]),
        cost=None if stage["spent_money"] is None else Spent(stage["spent_money"], stage["spent_estimated"]),
        artifact=_summary(stage) if stage["version"] else None,
    )


def _sum_of(stages: Iterable[StageRecord]) -> Spent | None:
    # Here and not in SQL: the stages are read anyway, and a join would make the statement a third dearer.
    spent = [stage.cost for stage in stages if stage.cost]
    return (
        Spent(sum((cost.money for cost in spent), Decimal(0)), any(cost.estimated for cost in spent)) if spent else None
    )


def _summary(stage: Row) -> ArtifactSummary:
    return ArtifactSummary(
        version=stage["version"],
        name=stage["name"],
        sha256=stage["sha256"],
        size=stage["size"],
        truncated=stage["truncated"],
        note=stage["note"],
    )


def _error(stored: Row | None) -> ErrorRecord | None:
    return ErrorRecord(stored["code"], stored["message"], stored["retryable"]) if stored else None
