"""Creating, reading, changing and archiving: the same for brands and for projects."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from datetime import datetime
from typing import Any, Generic, TypeVar
from uuid import UUID

from peewee import Tuple, fn
from uuid_utils.compat import uuid7

from vm_webapp.context.records import Brand, Project
from vm_webapp.db import models
from vm_webapp.db.paging import Page
from vm_webapp.db.pool import transaction
from vm_webapp.errors import Conflict, InvalidInput, NotFound, VMError

Record = TypeVar("Record", bound=Brand | Project)


class Changed(VMError):
    """The thing has changed since it was read; ``version`` is its version now."""

    code = "changed_meanwhile"
    http_status = 412

    def __init__(self, noun: str, version: int) -> None:
        super().__init__(f"the {noun} has changed since it was read; its version is now {version}")
        self.version = version

    @property
    def facts(self) -> dict[str, str | int]:
        """Return the version that it has now."""
        return {"version": self.version}


class Shelf(Generic[Record]):
    """All records of one kind.

    Args:
        model: the table.
        record: the plain data that is returned.
        noun: what a person calls one.
    """

    def __init__(self, model: type[models.Table], record: type[Record], noun: str) -> None:
        self._model: Any = model
        self._record: type[Record] = record
        self._noun = noun
        self._columns = {field.name: self._column(field.name) for field in fields(record)}

    def create(self, values: Mapping[str, Any]) -> Record:
        """Store a new one.

        Args:
            values: the record's fields that people set.

        Raises:
            InvalidInput: its brand does not exist or is archived, or it ends before it starts.
        """
        with transaction():
            self._check(values)
            now = fn.now()
            id = uuid7()
            self._model.insert(**self._stored(values), id=id, version=1, created_at=now, updated_at=now).execute()
            return self.read(id)

    def read(self, id: UUID) -> Record:
        """Return one.

        Raises:
            NotFound: there is none with this id.
        """
        with transaction():
            found = self._select().where(self._model.id == id).dicts().first()
            if found is None:
                raise NotFound(f"there is no {self._noun} {id}")
            return self._record(**found)

    def list(self, *, limit: int, after: tuple[datetime, UUID] | None, archived: bool) -> Page[Record]:
        """Return one page, newest first.

        Args:
            limit: most records of the page.
            after: ``(created_at, id)`` of the last record of the page before, None for the first page.
            archived: whether archived ones are listed, too.
        """
        model = self._model
        with transaction():
            query = self._select().order_by(model.created_at.desc(), model.id.desc()).limit(limit + 1)
            if not archived:
                query = query.where(model.archived_at.is_null())
            if after is not None:
                query = query.where(Tuple(model.created_at, model.id) < Tuple(*after))
            found = [self._record(**row) for row in query.dicts()]
        more = len(found) > limit
        last = found[limit - 1] if more else None
        return Page(tuple(found[:limit]), (last.created_at, last.id) if last else None)

    def change(self, id: UUID, changes: Mapping[str, Any], *, version: int) -> Record:
        """Change some fields, if nobody has changed any since ``version``.

        Raises:
            NotFound: there is none with this id.
            Changed: its version is another one by now.
            Conflict: it is archived.
            InvalidInput: as for ``create``.
        """
        with transaction():
            current = self._lock(id)
            if current.version != version:
                raise Changed(self._noun, current.version)
            if current.archived_at is not None:
                raise Conflict(f"the {self._noun} is archived; it cannot be changed")
            merged = {name: getattr(current, name) for name in self._columns} | dict(changes)
            self._check(dict(changes) | {name: merged[name] for name in ("starts_on", "ends_on") if name in merged})
            if changes:
                self._update(id, version=self._model.version + 1, **self._stored(changes))
            return self.read(id)

    def archive(self, id: UUID) -> Record:
        """Archive one: it takes no new runs. One that is archived stays as it is.

        Raises:
            NotFound: there is none with this id.
        """
        with transaction():
            if self._lock(id).archived_at is None:
                self._update(id, version=self._model.version + 1, archived_at=fn.now())
            return self.read(id)

    def _select(self) -> Any:
        return self._model.select(*(column.alias(name) for name, column in self._columns.items()))

    def _lock(self, id: UUID) -> Record:
        self._model.select(self._model.id).where(self._model.id == id).for_update("FOR NO KEY UPDATE").execute()
        return self.read(id)

    def _update(self, id: UUID, **values: Any) -> None:
        self._model.update(updated_at=fn.now(), **values).where(self._model.id == id).execute()

    def _check(self, values: Mapping[str, Any]) -> None:
        if (brand_id := values.get("brand_id")) is not None and self._record is Project:
            try:
                brand = brands.read(brand_id)
            except NotFound as error:
                raise InvalidInput(str(error), pointer="/brand_id") from None
            if brand.archived_at is not None:
                raise InvalidInput(f"the brand {brand_id} is archived", pointer="/brand_id")
        starts_on, ends_on = values.get("starts_on"), values.get("ends_on")
        if starts_on and ends_on and ends_on < starts_on:
            raise InvalidInput("the project ends before it starts", pointer="/ends_on")

    def _column(self, name: str) -> Any:
        return self._model.brand if name == "brand_id" else getattr(self._model, name)

    def _stored(self, values: Mapping[str, Any]) -> dict[str, Any]:
        return {"brand" if name == "brand_id" else name: value for name, value in values.items()}


brands = Shelf(models.Brand, Brand, "brand")
projects = Shelf(models.Project, Project, "project")
