"""What people keep: create, list, read, change, archive; the same for each kind."""

from __future__ import annotations

from typing import Any, NamedTuple

from api.http.cursors import Cursor
from api.http.etags import etag, required_version
from api.operations.call import Call
from api.operations.command import command
from api.operations.models import Input, Output
from api.operations.operation import PREFIX, Answer, Models, Operation
from api.operations.query import query
from api.schemas.shelves import KeptPath, Kind, ShelfQuery
from vm_webapp.context import Brand, Project
from vm_webapp.db.paging import Page


class ShelfRoutes(NamedTuple):
    """The operations on one kind."""

    create: Operation
    list: Operation
    read: Operation
    change: Operation
    archive: Operation


def routes_of(kind: Kind[Any]) -> ShelfRoutes:
    """Return the operations on a kind."""
    noun, shelf = kind.noun, kind.shelf
    all_of_them, one = f"/{noun}s", f"/{noun}s/{{{noun}_id}}"

    def answer(kept: Brand | Project, **headers: str) -> Answer[Output]:
        return Answer(kind.out.model_validate(kept), headers=etag(kept.version) | headers)

    @command(
        "POST",
        all_of_them,
        summary=f"Create a {noun}",
        name=f"create_{noun}",
        models=Models(body=kind.new),
        answer=kind.out,
        status=201,
    )
    def create(call: Call, body: Input) -> Answer[Output]:
        """Create it."""
        kept = shelf.create(body.model_dump())
        return answer(kept, Location=f"{PREFIX}{all_of_them}/{kept.id}")

    @query(
        all_of_them,
        kind.page,
        summary=f"{noun.capitalize()}s, newest first",
        name=f"list_{noun}s",
        models=Models(query=ShelfQuery),
    )
    def list_page(call: Call, query: ShelfQuery) -> Page[Any]:
        """List a page."""
        return shelf.list(limit=query.limit, after=Cursor.position(query.cursor), archived=query.archived)

    @query(
        one,
        kind.out,
        summary=f"One {noun}",
        name=f"read_{noun}",
        models=Models(path=kind.path),
        headers=lambda kept: etag(kept.version),
    )
    def read(call: Call, path: KeptPath) -> Any:
        """Read it; its ``ETag`` is what a change needs."""
        return shelf.read(path.id)

    @command(
        "PATCH",
        one,
        summary=f"Change a {noun}",
        name=f"change_{noun}",
        models=Models(path=kind.path, body=kind.change),
        answer=kind.out,
        errors=(409, 412, 428),
    )
    def change(call: Call, path: KeptPath, body: Input) -> Answer[Output]:
        """Change what is given, if it is still the one that was read."""
        version = required_version(call.if_match)
        return answer(shelf.change(path.id, body.model_dump(exclude_unset=True), version=version))

    @command(
        "POST",
        f"{one}/archive",
        summary=f"Archive a {noun}: it takes no new runs",
        name=f"archive_{noun}",
        models=Models(path=kind.path),
        answer=kind.out,
    )
    def archive(call: Call, path: KeptPath) -> Answer[Output]:
        """Archive it; runs in flight go on."""
        return answer(shelf.archive(path.id))

    return ShelfRoutes(create, list_page, read, change, archive)
