"""The brand and the project that a run is created with, locked until the run is committed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar
from uuid import UUID

from vm_webapp.context import Repository, brands, projects
from vm_webapp.context.fields import content_of
from vm_webapp.db.models import Brand, Project, Resource
from vm_webapp.errors import InvalidInput, NotFound
from vm_webapp.runs.snapshots import NewSnapshot

Record = TypeVar("Record", bound=Resource)


@dataclass(frozen=True, slots=True)
class RunContext:
    """What a run is created with; a run keeps a copy of it, and later changes do not reach the run."""

    brand: Brand | None
    project: Project | None

    @property
    def brand_id(self) -> UUID | None:
        """The brand's id, or None."""
        return None if self.brand is None else self.brand.id

    def snapshots(self) -> tuple[NewSnapshot | None, NewSnapshot | None]:
        """Return what the run keeps of brand and project; None where it has none."""
        brand = None if self.brand is None else NewSnapshot.of(content_of(self.brand))
        return brand, None if self.project is None else NewSnapshot.of(content_of(self.project))


def lock_context(brand_id: UUID | None, project_id: UUID | None) -> RunContext:
    """Return brand and project as they are now, inside the current transaction.

    A project's brand is the run's brand: it need not be given, and cannot be another one.

    Raises:
        InvalidInput: one of them does not exist or is archived, or the project belongs to another brand.
    """
    brand = None if brand_id is None else _lock(brands, brand_id, "brand", "/brand_id")
    project = None if project_id is None else _lock(projects, project_id, "project", "/project_id")
    of_project = None if project is None else project.brand_id
    if of_project is not None and brand is None:
        brand = _lock(brands, of_project, "brand", "/project_id")
    if of_project is not None and brand is not None and brand.id != of_project:
        raise InvalidInput(f"the project {project_id} belongs to another brand, {of_project}", pointer="/brand_id")
    return RunContext(brand, project)


def lock_present_context(brand_id: UUID | None, project_id: UUID | None, *, pointer: str) -> RunContext:
    """Return brand and project of an earlier run as they are now, inside the current transaction.

    Where the project has moved to another brand since, that is the brand.

    Args:
        brand_id: the earlier run's brand, or None.
        project_id: the earlier run's project, or None.
        pointer: the part of the request that asks for them.

    Raises:
        InvalidInput: one of them is archived.
    """
    project = None if project_id is None else _lock(projects, project_id, "project", pointer)
    if project is not None and project.brand_id is not None:
        brand_id = project.brand_id
    return RunContext(None if brand_id is None else _lock(brands, brand_id, "brand", pointer), project)


def _lock(repository: Repository[Record], id: UUID, noun: str, pointer: str) -> Record:
    # Locked as the foreign key's own check locks it: the row cannot be deleted before the run is committed, and changes
    # of its other columns do not wait. Without this, a missing brand would surface as a violated constraint.
    try:
        record = repository.lock(id, "FOR KEY SHARE")
    except NotFound as error:
        raise InvalidInput(str(error), pointer=pointer) from None
    if record.archived_at is not None:
        raise InvalidInput(f"the {noun} {id} is archived and takes no new runs", pointer=pointer)
    return record
