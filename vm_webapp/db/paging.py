"""Keyset pagination: each page says where the next one starts, and a page far down the list costs no more."""

from __future__ import annotations

from collections.abc import Callable, Sequence
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


def page_of(found: Sequence[Item], limit: int, position_of: Callable[[Item], Position]) -> Page[Item]:
    """Return a page of what a query has found that asked for one item more than the page holds.

    The one item more tells, without counting, whether there is a next page.

    Args:
        found: the items, in the order of the listing, at most ``limit`` + 1.
        limit: most items of the page.
        position_of: returns an item's sort key.
    """
    items = tuple(found[:limit])
    return Page(items, position_of(items[-1]) if len(found) > limit else None)
