"""The operations that create, list, read, change and archive a resource, the same for each type."""

from __future__ import annotations

from typing import Any, NamedTuple

from api.http.cursors import Cursor
from api.http.etags import etag, required_version
from api.operations.call import Call
from api.operations.command import command
from api.operations.headers import ETAG, IF_MATCH
from api.operations.models import Input, Output
from api.operations.operation import PREFIX, JsonResponse, Models, Operation
from api.operations.query import query
from api.schemas.resources import ResourcePath, ResourceQuery, ResourceType
from vm_webapp.db.paging import Page


class ResourceRoutes(NamedTuple):
    """The operations on one type of resource."""

    create: Operation
    list: Operation
    read: Operation
    change: Operation
    archive: Operation


def routes_of(kind: ResourceType) -> ResourceRoutes:
    """Return the operations on a type of resource."""
    # The handlers are closures: the documentation needs names, summaries and models of each type, not generic ones.
    noun, repository = kind.noun, kind.repository
    all_of_them, one = f"/{noun}s", f"/{noun}s/{{{noun}_id}}"

    def respond(record: Any, **headers: str) -> JsonResponse[Output]:
        return JsonResponse(kind.out.model_validate(record), headers=etag(record.version) | headers)

    @command(
        "POST",
        all_of_them,
        role="editor",
        summary=f"Create a {noun}",
        name=f"create_{noun}",
        models=Models(body=kind.new),
        response_model=kind.out,
        status=201,
        returns=(ETAG,),
    )
    def create(call: Call, body: Input) -> JsonResponse[Output]:
        """Create it."""
        record = repository.create(body.model_dump(), actor=call.actor)
        return respond(record, Location=f"{PREFIX}{all_of_them}/{record.id}")

    @query(
        all_of_them,
        kind.page,
        role="viewer",
        summary=f"{noun.capitalize()}s, newest first",
        name=f"list_{noun}s",
        models=Models(query=ResourceQuery),
    )
    def list_page(call: Call, query: ResourceQuery) -> Page[Any]:
        """List a page."""
        return repository.list(limit=query.limit, after=Cursor.position(query.cursor), archived=query.archived)

    @query(
        one,
        kind.out,
        role="viewer",
        summary=f"One {noun}",
        name=f"read_{noun}",
        models=Models(path=kind.path),
        headers=lambda record: etag(record.version),
        returns=(ETAG,),
    )
    def read(call: Call, path: ResourcePath) -> Any:
        """Read it; its ``ETag`` is what a change needs."""
        return repository.read(path.id)

    @command(
        "PATCH",
        one,
        role="editor",
        summary=f"Change a {noun}",
        name=f"change_{noun}",
        models=Models(path=kind.path, body=kind.change),
        response_model=kind.out,
        errors=(409, 412, 428),
        accepts=(IF_MATCH,),
        returns=(ETAG,),
    )
    def change(call: Call, path: ResourcePath, body: Input) -> JsonResponse[Output]:
        """Change what is given, if it is still the one that was read."""
        # A change must name the version that it is based on: two editors must not overwrite each other's changes.
        version = required_version(call.if_match)
        # exclude_unset distinguishes a field that is left out from one that is null, which clears it.
        return respond(
            repository.change(path.id, body.model_dump(exclude_unset=True), version=version, actor=call.actor)
        )

    @command(
        "POST",
        f"{one}/archive",
        role="editor",
        summary=f"Archive a {noun}: it takes no new runs",
        name=f"archive_{noun}",
        models=Models(path=kind.path),
        response_model=kind.out,
        returns=(ETAG,),
    )
    def archive(call: Call, path: ResourcePath) -> JsonResponse[Output]:
        """Archive it; runs in flight go on."""
        return respond(repository.archive(path.id, actor=call.actor))

    return ResourceRoutes(create, list_page, read, change, archive)
