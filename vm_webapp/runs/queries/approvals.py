"""Drafts that wait for a person."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from peewee import JOIN, SQL, Tuple, fn

from vm_webapp.access.actor import Actor
from vm_webapp.access.roles import includes
from vm_webapp.db.compiled import COUNT, NOW, compiled, param
from vm_webapp.db.models import Artifact, Run, Snapshot, Stage
from vm_webapp.db.paging import Page, page_of
from vm_webapp.db.pool import row, rows
from vm_webapp.db.prepared import prepared
from vm_webapp.runs.artifacts import newest_of
from vm_webapp.runs.queries.reading import read_only


@dataclass(frozen=True, slots=True)
class Approval:
    """A draft that waits for approval.

    Attributes:
        waiting_since: when the draft was written.
        brand: the brand's name in the run's snapshot, or None.
        size: in bytes of UTF-8.
        truncated: the model reached its budget, so the draft breaks off.
        note: what a reader should know of how it was written, or None.
        four_eyes: whether somebody else than the run's creator has to decide.
        creator_id: the creator's id as in ``Actor``, None if the creator is not known.
    """

    run_id: UUID
    workflow: str
    request: str
    brand_id: UUID | None
    brand: str | None
    project_id: UUID | None
    stage: str
    title: str
    version: int
    sha256: str
    size: int
    truncated: bool
    note: str | None
    waiting_since: datetime
    age_seconds: int
    four_eyes: bool
    creator_id: str | None

    def may_be_decided_by(self, reviewer: Actor) -> bool:
        """Return whether a person with this role and this key may decide."""
        if not includes(reviewer.role, "editor"):
            return False
        return not self.four_eyes or reviewer.id not in (None, self.creator_id)


# PostgreSQL demands ON for a lateral join, and the condition is in the subquery already, hence ``on=SQL("true")``.
_DRAFT = newest_of(
    Stage.id,
    Artifact.version,
    Artifact.sha256,
    Artifact.size,
    Artifact.truncated,
    Artifact.note,
    Artifact.created_at,
).alias("draft")
_PAGE = (
    Stage.select(
        Run.id.alias("run_id"),
        Run.workflow,
        Run.request,
        Run.brand,
        fn.coalesce(Snapshot.content["name"], Run.snapshot["brand"]["name"]).alias("brand"),
        Run.project,
        Stage.key.alias("stage"),
        Stage.title,
        _DRAFT.c.version,
        _DRAFT.c.sha256,
        _DRAFT.c.size,
        _DRAFT.c.truncated,
        _DRAFT.c.note,
        _DRAFT.c.created_at.alias("waiting_since"),
        fn.date_part("epoch", NOW - _DRAFT.c.created_at).cast("int").alias("age_seconds"),
        Run.four_eyes,
        Run.creator_id,
    )
    .join(Run)
    .join(Snapshot, JOIN.LEFT_OUTER, on=Snapshot.digest == Run.brand_digest)
    .join_from(Stage, _DRAFT, JOIN.LATERAL, on=SQL("true"))
    .where(Stage.status == "waiting_approval")
    .order_by(_DRAFT.c.created_at, Run.id)
    .limit(param("limit"))
)
# The position is a pair, since two drafts may have the same time. PostgreSQL sorts what the partial index
# stages_waiting finds: the drafts that wait now, however long the history.
_FIRST_PAGE = compiled(_PAGE)
_NEXT_PAGE = compiled(_PAGE.where(Tuple(_DRAFT.c.created_at, Run.id) > Tuple(param("at"), param("id"))))

# What ``Approval.may_be_decided_by`` says of an editor.
_DECIDABLE = ~Run.four_eyes | (param("known") & (fn.coalesce(Run.creator_id, "") != param("reviewer_id")))
_FIRST_DECIDABLE = compiled(_PAGE.where(_DECIDABLE))
_COUNT = prepared(Stage.select(COUNT.alias("n")).join(Run).where(Stage.status == "waiting_approval", _DECIDABLE))


@read_only
def count_approvals(reviewer: Actor) -> int:
    """Return how many drafts wait that this person may decide about; see ``Approval.may_be_decided_by``."""
    if not includes(reviewer.role, "editor"):
        return 0
    found = row(_COUNT, known=reviewer.id is not None, reviewer_id=reviewer.id or "")
    assert found is not None
    return int(found["n"])


@read_only
def list_approvals_for(reviewer: Actor, *, limit: int) -> tuple[Approval, ...]:
    """Return the oldest drafts that this person may decide about, oldest first; see ``Approval.may_be_decided_by``.

    Args:
        reviewer: the person.
        limit: most drafts.
    """
    if not includes(reviewer.role, "editor"):
        return ()
    found = rows(_FIRST_DECIDABLE, limit=limit, known=reviewer.id is not None, reviewer_id=reviewer.id or "")
    return tuple(Approval(**each) for each in found)


@read_only
def list_approvals(*, limit: int, after: tuple[datetime, UUID] | None) -> Page[Approval]:
    """Return one page of the drafts that wait, oldest first.

    Args:
        limit: most drafts of the page.
        after: ``(waiting_since, run_id)`` of the last one of the page before, None for the first page.
    """
    # One more than the page shows that there is a next one, without counting.
    if after is None:
        found = rows(_FIRST_PAGE, limit=limit + 1)
    else:
        found = rows(_NEXT_PAGE, limit=limit + 1, at=after[0], id=after[1])
    return page_of([Approval(**each) for each in found], limit, lambda draft: (draft.waiting_since, draft.run_id))


@dataclass(frozen=True, slots=True)
class Drafts:
    """Drafts that wait for approval, oldest first.

    Attributes:
        own: those that the person may decide about.
        others: those that wait for somebody else.
    """

    own: Sequence[Approval]
    others: Sequence[Approval]


@read_only
def read_drafts(reviewer: Actor, *, limit: int) -> Drafts:
    """Return the oldest drafts that wait, divided by whether this person may decide about them.

    Args:
        reviewer: the person.
        limit: most drafts of either kind.
    """
    oldest = list_approvals(limit=limit, after=None)
    own: Sequence[Approval] = [each for each in oldest.items if each.may_be_decided_by(reviewer)]
    others = [each for each in oldest.items if not each.may_be_decided_by(reviewer)]
    if oldest.next_position is not None and len(own) < limit:  # more of the own may stand behind those of others
        own = list_approvals_for(reviewer, limit=limit)
    return Drafts(own, others)
