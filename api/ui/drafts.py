"""The drafts that wait for a decision, as a person sees them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from vm_webapp.access.actor import Actor
from vm_webapp.runs import queries
from vm_webapp.runs.queries import Approval


@dataclass(frozen=True, slots=True)
class Drafts:
    """Drafts, oldest first.

    Attributes:
        own: those that the person may decide about.
        others: those that wait for somebody else.
    """

    own: Sequence[Approval]
    others: Sequence[Approval]


def read_drafts(actor: Actor, *, limit: int) -> Drafts:
    """Return the oldest drafts that wait, inside the current transaction.

    Args:
        actor: the person.
        limit: most drafts of either kind.
    """
    oldest = queries.list_approvals(limit=limit, after=None)
    own: Sequence[Approval] = [each for each in oldest.items if each.may_be_decided_by(actor)]
    others = [each for each in oldest.items if not each.may_be_decided_by(actor)]
    if oldest.next_position is not None and len(own) < limit:  # more of the own may stand behind those of others
        own = queries.list_approvals_for(actor, limit=limit)
    return Drafts(own, others)
