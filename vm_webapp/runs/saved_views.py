"""Views of the list of runs that people have saved under a name; each person sees the own ones only."""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID

from uuid_utils.compat import uuid7

from vm_webapp.db.compiled import compiled, delete_from, param
from vm_webapp.db.models import SavedView
from vm_webapp.db.pool import execute, rows, transaction
from vm_webapp.errors import InvalidInput

MOST_VIEWS = 30  # of one person
MOST_CHARACTERS = 60  # of a name
MOST_OF_QUERY = 4_000  # characters; the filters that there are need less than 3,500

_OF_OWNER = compiled(
    SavedView.select(SavedView.id, SavedView.name, SavedView.query)
    .where(SavedView.owner == param("owner"))
    .order_by(SavedView.name)
)
_ADD = """
    INSERT INTO saved_views (id, owner, name, query) VALUES (%(id)s, %(owner)s, %(name)s, %(query)s)
        ON CONFLICT (owner, name) DO NOTHING
"""
_DELETE = compiled(delete_from(SavedView).where(SavedView.id == param("id"), SavedView.owner == param("owner")))


@dataclass(frozen=True, slots=True)
class View:
    """Filters and order, as in the address of the list, under a name."""

    id: UUID
    name: str
    query: str


def list_views(owner: str) -> list[View]:
    """Return the views of a person by their names, inside the current transaction."""
    return [View(**each) for each in rows(_OF_OWNER, owner=owner)]


def save_view(owner: str, name: str, query: str) -> None:
    """Save a view.

    Args:
        owner: the id of the person.
        name: what the person calls it.
        query: filters and order, as in the address of the list.

    Raises:
        InvalidInput: the name is empty, too long or taken, the query is too long, or the person has too many views.
    """
    if not name:
        raise InvalidInput("Give the view a name.", pointer="/name")
    if len(name) > MOST_CHARACTERS:
        raise InvalidInput(f"At most {MOST_CHARACTERS} characters; this has {len(name)}.", pointer="/name")
    if len(query) > MOST_OF_QUERY:
        raise InvalidInput(
            f"These filters are too long to be saved: at most {MOST_OF_QUERY:,} characters.", pointer="/query"
        )
    with transaction():
        if len(list_views(owner)) >= MOST_VIEWS:
            raise InvalidInput(f"You have {MOST_VIEWS} views. Remove one first.", pointer="/name")
        if not execute(_ADD, id=uuid7(), owner=owner, name=name, query=query):
            raise InvalidInput("You have a view of that name. Take another name, or remove it first.", pointer="/name")


def delete_view(owner: str, id: UUID) -> None:
    """Remove a view of a person; one that is gone, or somebody else's, changes nothing."""
    with transaction():
        execute(_DELETE, id=id, owner=owner)
