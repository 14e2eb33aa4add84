"""Brands and projects as plain data."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime
from uuid import UUID


@dataclass(frozen=True, slots=True)
class Brand:
    """Whose voice, products and facts the documents use.

    Attributes:
        facts: what may be stated as it is.
        forbidden_words: what must not appear.
        version: counts the changes; a change names the version that it was made from.
        archived_at: since when it takes no new runs, or None.
    """

    id: UUID
    name: str
    voice: str
    audience: str
    products: list[str]
    facts: list[str]
    forbidden_words: list[str]
    version: int
    created_at: datetime
    updated_at: datetime
    archived_at: datetime | None


@dataclass(frozen=True, slots=True)
class Project:
    """What a set of runs works toward.

    Attributes:
        brand_id: the brand it belongs to, or None.
        starts_on: its first day, or None.
        ends_on: its last day, or None; not before ``starts_on``.
        version: counts the changes; a change names the version that it was made from.
        archived_at: since when it takes no new runs, or None.
    """

    id: UUID
    brand_id: UUID | None
    name: str
    objective: str
    channels: list[str]
    starts_on: date | None
    ends_on: date | None
    version: int
    created_at: datetime
    updated_at: datetime
    archived_at: datetime | None
