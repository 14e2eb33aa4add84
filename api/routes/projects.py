"""Projects: create, list, read, change, archive."""

from __future__ import annotations

from api.routes.resources import routes_of
from api.schemas.projects import PROJECTS

create_project, list_projects, read_project, change_project, archive_project = routes_of(PROJECTS)
