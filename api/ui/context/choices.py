"""The brands and projects among which a person chooses."""

from __future__ import annotations

from contextlib import suppress
from uuid import UUID

from vm_webapp.context import Repository
from vm_webapp.context.repository import Record
from vm_webapp.errors import NotFound

MOST_CHOICES = 200


def choices_of(repository: Repository[Record], chosen: UUID | None = None, *, archived: bool = False) -> list[Record]:
    """Return the newest brands or projects in the order of their names, inside the current transaction.

    Args:
        repository: all brands, or all projects.
        chosen: the one that is chosen already, which is among them whatever its age; None for none.
        archived: whether those that are archived are among them.
    """
    found = list(repository.list(limit=MOST_CHOICES, after=None, archived=archived).items)
    if chosen is not None and chosen not in {each.id for each in found}:
        with suppress(NotFound):
            found.append(repository.read(chosen))
    return sorted(found, key=lambda each: str(each.name).casefold())
