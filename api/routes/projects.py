"""Projects: create, list, read, change, archive."""

from __future__ import annotations

from aiohttp import web

from api.http.cursors import Cursor
from api.http.etags import etag, required_version
from api.operations.command import Call, command
from api.operations.operation import PREFIX, Answer, operation
from api.schemas.brands import ProjectChangeIn, ProjectIn, ProjectOut, ProjectPath, ProjectsOut, ShelfQuery
from api.services import services
from vm_webapp.context import Project, projects


@command("POST", "/projects", summary="Create a project", status=201)
def create_project(call: Call, body: ProjectIn) -> Answer[ProjectOut]:
    """Create it."""
    project = projects.create(body.model_dump())
    return _answer(project, location=f"{PREFIX}/projects/{project.id}")


@operation("GET", "/projects", summary="Projects, newest first")
async def list_projects(request: web.Request, query: ShelfQuery) -> Answer[ProjectsOut]:
    """List a page."""
    after = Cursor.position(query.cursor)
    page = await services(request).threads.run(
        lambda: projects.list(limit=query.limit, after=after, archived=query.archived)
    )
    items = [ProjectOut.model_validate(project) for project in page.items]
    return Answer(ProjectsOut(items=items, next_cursor=Cursor.of(page.next_position)))


@operation("GET", "/projects/{project_id}", summary="One project")
async def read_project(request: web.Request, path: ProjectPath) -> Answer[ProjectOut]:
    """Read it; its ``ETag`` is what a change needs."""
    return _answer(await services(request).threads.run(lambda: projects.read(path.project_id)))


@command("PATCH", "/projects/{project_id}", summary="Change a project", errors=(409, 412, 428))
def change_project(call: Call, path: ProjectPath, body: ProjectChangeIn) -> Answer[ProjectOut]:
    """Change what is given, if the project is still the one that was read."""
    version = required_version(call.if_match)
    return _answer(projects.change(path.project_id, body.model_dump(exclude_unset=True), version=version))


@command("POST", "/projects/{project_id}/archive", summary="Archive a project: it takes no new runs")
def archive_project(call: Call, path: ProjectPath) -> Answer[ProjectOut]:
    """Archive it; runs in flight go on."""
    return _answer(projects.archive(path.project_id))


def _answer(project: Project, *, location: str | None = None) -> Answer[ProjectOut]:
    headers = etag(project.version) | ({"Location": location} if location else {})
    return Answer(ProjectOut.model_validate(project), headers=headers)
