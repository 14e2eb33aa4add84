"""What a run was created with: by whom, and with which brand and project as they were then."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from peewee import JOIN, fn

from vm_webapp.db.compiled import param
from vm_webapp.db.models import Run, Snapshot
from vm_webapp.db.pool import row
from vm_webapp.db.prepared import prepared
from vm_webapp.runs.queries.reading import no_run, read_only


@dataclass(frozen=True, slots=True)
class Origin:
    """What a run was created with.

    Attributes:
        title: the title of its workflow.
        brand: the brand's content in the run's snapshot, or None.
        project: likewise.
        created_by: who created it, as timelines show it; None for runs of old.
        creator_id: the creator's id as in ``Actor``, None if the creator is not known.
        four_eyes: whether somebody else than the creator decides its reviews.
    """

    title: str
    brand: Mapping[str, Any] | None
    project: Mapping[str, Any] | None
    created_by: str | None
    creator_id: str | None
    four_eyes: bool


# The column ``snapshot`` is for runs of the build before, which refer to no snapshots.
_WORKFLOW, _BRAND, _PROJECT = Snapshot.alias("w"), Snapshot.alias("b"), Snapshot.alias("p")
_ORIGIN = prepared(
    Run.select(
        fn.coalesce(_WORKFLOW.content["title"], Run.snapshot["workflow"]["title"]).alias("title"),
        fn.coalesce(_BRAND.content, Run.snapshot["brand"].as_json(True)).alias("brand"),
        fn.coalesce(_PROJECT.content, Run.snapshot["project"].as_json(True)).alias("project"),
        Run.created_by,
        Run.creator_id,
        Run.four_eyes,
    )
    .join(_WORKFLOW, JOIN.LEFT_OUTER, on=_WORKFLOW.digest == Run.workflow_digest)
    .join_from(Run, _BRAND, JOIN.LEFT_OUTER, on=_BRAND.digest == Run.brand_digest)
    .join_from(Run, _PROJECT, JOIN.LEFT_OUTER, on=_PROJECT.digest == Run.project_digest)
    .where(Run.id == param("id"))
)


@read_only
def read_origin(run_id: UUID) -> Origin:
    """Return what a run was created with.

    Raises:
        NotFound: there is no such run.
    """
    found = row(_ORIGIN, id=run_id)
    if found is None:
        raise no_run(run_id)
    return Origin(**found)
