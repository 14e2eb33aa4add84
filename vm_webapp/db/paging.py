"""Keyset pagination: a page knows where the next one starts, and costs the same however far down the list it is."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Generic, TypeVar
from uuid import UUID

Item = TypeVar("Item")


@dataclass(frozen=True, slots=True)
class Page(Generic[Item]):
    """One page of a listing. ``next_position`` is where the next one starts, None on the last."""

    items: tuple[Item, ...]
    next_position: tuple[datetime, UUID] | None
