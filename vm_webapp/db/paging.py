"""Keyset pagination: each page says where the next one starts, and a page far down the list costs no more."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Generic, TypeVar
from uuid import UUID

Item = TypeVar("Item")
Position = tuple[datetime, UUID] | int


@dataclass(frozen=True, slots=True)
class Page(Generic[Item]):
    """One page of a listing.

    Attributes:
        next_position: the sort key of the page's last item, after which the next page starts: its time and id, or a
            number that is unique. None on the last page.
    """

    items: tuple[Item, ...]
    next_position: Position | None
