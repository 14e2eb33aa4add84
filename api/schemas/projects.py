"""The shapes of projects."""

from __future__ import annotations

from datetime import date
from uuid import UUID

from api.operations.models import Input
from api.schemas.resources import Lines, Name, Prose, declare
from vm_webapp.context import projects


class ProjectIn(Input):
    """A new project."""

    brand_id: UUID | None = None
    name: Name
    objective: Prose = ""
    channels: Lines
    starts_on: date | None = None
    ends_on: date | None = None


PROJECTS = declare(
    "project", projects, ProjectIn, change="What to change; what is left out stays as it is, null empties it."
)
