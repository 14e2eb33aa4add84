"""Keyset pagination: a page knows where the next one starts, and costs the same however far down the list it is."""

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
        next_position: behind what the next page starts, as the listing is sorted: by time and id, or by a number that
            is both. None on the last page.
    """

    items: tuple[Item, ...]
    next_position: Position | None
