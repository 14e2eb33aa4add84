"""Creates, reads, changes and archives brands and projects, both in the same way."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any, Generic, TypeVar
from uuid import UUID

from peewee import ModelSelect, Tuple, fn
from uuid_utils.compat import uuid7

from vm_webapp.access.actor import Actor
from vm_webapp.access.audit import record
from vm_webapp.context.time_zones import check_time_zone
from vm_webapp.db.compiled import NO_KEY_UPDATE
from vm_webapp.db.models import Brand, Project, Resource
from vm_webapp.db.paging import Page, page_of
from vm_webapp.db.pool import transaction
from vm_webapp.errors import Conflict, InvalidInput, NotFound, VMError
from vm_webapp.prices import money_text

Record = TypeVar("Record", bound=Resource)


class ResourceChanged(VMError):
    """The resource has changed since it was read; ``version`` is its version now."""

    code = "changed_meanwhile"
    http_status = 412

    def __init__(self, noun: str, version: int) -> None:
        super().__init__(f"the {noun} has changed since it was read; its version is now {version}")
        self.version = version

    @property
    def facts(self) -> dict[str, str | int]:
        """Return the current version."""
        return {"version": self.version}


class Repository(Generic[Record]):
    """All brands, or all projects.

    Each record is a row of the table as Peewee's model has it, read whole; foreign keys are ids (``brand_id``).

    Args:
        model: the table.
        noun: the name of one record in messages, such as ``brand``.
    """

    def __init__(self, model: type[Record], noun: str) -> None:
        self._model = model
        self._noun = noun

    def create(self, values: Mapping[str, Any], *, actor: Actor) -> Record:
        """Store a new record.

        Args:
            values: the fields that people set; a column that is left out gets its default.
            actor: who creates it.

        Raises:
            InvalidInput: its brand does not exist or is archived, its time zone is none, or it ends before it starts.
        """
        with transaction():
            self._check(values)
            # The database's clock: the machines of several APIs may disagree, and listings are sorted by this time.
            now = fn.now()
            id = uuid7()
            self._model.insert(**_columns(values), id=id, version=1, created_at=now, updated_at=now).execute()
            self._note(actor, "create", id, version=1, **_budget_facts(values))
            return self.read(id)

    def read(self, id: UUID) -> Record:
        """Return one record.

        Raises:
            NotFound: there is none with this id.
        """
        with transaction():
            return self._one(id, self._model.select())

    def names(self, ids: Iterable[UUID | None]) -> dict[UUID, str]:
        """Return the names of these records, by id; those that do not exist, and None, are left out."""
        wanted = {id for id in ids if id is not None}
        query = self._model.select(self._model.id, self._model.name).where(self._model.id.in_(wanted))
        with transaction():
            return {each.id: each.name for each in query} if wanted else {}

    def list(self, *, limit: int, after: tuple[datetime, UUID] | None, archived: bool) -> Page[Record]:
        """Return one page, newest first.

        Args:
            limit: most records of the page.
            after: ``(created_at, id)`` of the last record of the page before, None for the first page.
            archived: whether the page includes archived records.
        """
        model = self._model
        query = model.select().order_by(model.created_at.desc(), model.id.desc()).limit(limit + 1)
        if not archived:
            query = query.where(model.archived_at.is_null())
        if after is not None:
            # A row comparison instead of two conditions with OR: PostgreSQL can start in the middle of the index.
            query = query.where(Tuple(model.created_at, model.id) < Tuple(*after))
        with transaction():
            return page_of(list(query), limit, lambda record: (record.created_at, record.id))

    def change(self, id: UUID, changes: Mapping[str, Any], *, version: int, actor: Actor) -> Record:
        """Change some fields, if the record still has this version.

        Raises:
            NotFound: there is none with this id.
            ResourceChanged: it has another version by now.
            Conflict: it is archived.
            InvalidInput: as for ``create``.
        """
        with transaction():
            current = self.lock(id)
            if current.version != version:
                raise ResourceChanged(self._noun, current.version)
            if current.archived_at is not None:
                raise Conflict(f"the {self._noun} is archived; it cannot be changed")
            # A change may contain only one of the two days; it is checked against the other one as stored.
            days = {name: getattr(current, name) for name in ("starts_on", "ends_on") if hasattr(current, name)}
            self._check(days | dict(changes))
            if changes:
                self._update(id, version=self._model.version + 1, **_columns(changes))
                facts = {"fields": sorted(changes), **_budget_facts(changes)}
                self._note(actor, "change", id, version=version + 1, **facts)
            return self.read(id)

    def archive(self, id: UUID, *, actor: Actor) -> Record:
        """Archive a record, which then takes no new runs. One that is archived already stays unchanged.

        Raises:
            NotFound: there is none with this id.
        """
        with transaction():
            current = self.lock(id)
            if current.archived_at is None:
                self._update(id, version=self._model.version + 1, archived_at=fn.now())
                self._note(actor, "archive", id, version=current.version + 1)
            return self.read(id)

    def lock(self, id: UUID, strength: Any = NO_KEY_UPDATE) -> Record:
        """Lock a record until the current transaction ends, and return it.

        Args:
            id: which one.
            strength: PostgreSQL's row lock. With the default, others cannot change the record, but new runs can refer
                to it; ``FOR KEY SHARE`` only prevents its deletion.

        Raises:
            NotFound: there is none with this id.
        """
        return self._one(id, self._model.select().for_update(strength))

    def _one(self, id: UUID, query: ModelSelect[Record]) -> Record:
        found: Record | None = query.where(self._model.id == id).first()
        if found is None:
            raise NotFound(f"there is no {self._noun} {id}")
        return found

    def _update(self, id: UUID, **values: Any) -> None:
        self._model.update(updated_at=fn.now(), **values).where(self._model.id == id).execute()

    def _note(self, actor: Actor, verb: str, id: UUID, **data: Any) -> None:
        record(actor, f"{self._noun}.{verb}", f"{self._noun}:{id}", data=data)

    def _check(self, values: Mapping[str, Any]) -> None:
        if (brand_id := values.get("brand_id")) is not None:
            try:
                brand = brands.read(brand_id)
            except NotFound as error:
                raise InvalidInput(str(error), pointer="/brand_id") from None
            if brand.archived_at is not None:
                raise InvalidInput(f"the brand {brand_id} is archived", pointer="/brand_id")
        if (time_zone := values.get("time_zone")) is not None:
            check_time_zone(time_zone)
        starts_on, ends_on = values.get("starts_on"), values.get("ends_on")
        if starts_on and ends_on and ends_on < starts_on:
            raise InvalidInput("the project ends before it starts", pointer="/ends_on")


def _columns(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values of the columns: a brand's ``day_budget`` has two."""
    columns = dict(values)
    if "day_budget" in columns:
        columns |= {f"day_budget_{part}": value for part, value in _parts(columns.pop("day_budget")).items()}
    return columns


def _budget_facts(values: Mapping[str, Any]) -> dict[str, int | str | None]:
    """Return what the audit trail says of a budget, which is money: where one is set, its parts."""
    if values.get("day_budget") is None:
        return {}
    parts = _parts(values["day_budget"])
    money = None if parts["money"] is None else money_text(parts["money"])
    return {"day_budget_tokens": parts["tokens"], "day_budget_money": money}


def _parts(day_budget: Mapping[str, Any] | None) -> dict[str, Any]:
    return {part: None if day_budget is None else day_budget.get(part) for part in ("tokens", "money")}


brands = Repository(Brand, "brand")
projects = Repository(Project, "project")
