"""The filters and the order of the list of runs, as the address of its page has them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import Any, get_args
from urllib.parse import urlencode
from uuid import UUID

from api.schemas.runs import MAX_SEARCH_CHARACTERS
from vm_webapp.runs.queries import Order, RunFilter
from vm_webapp.runs.records import RunStatus
from vm_webapp.text import UNSTORABLE, is_storable, storable

DAYS = {
    "created_from": "created_after",
    "created_to": "created_before",
    "finished_from": "finished_after",
    "finished_to": "finished_before",
}
FIELDS = ("text", "status", "workflow", "brand_id", "project_id", *DAYS, "archived", "order")
MOST_CHARACTERS = {"text": MAX_SEARCH_CHARACTERS, "workflow": 64}
STATUSES = ("active", *get_args(RunStatus))


@dataclass(frozen=True, slots=True)
class Wanted:
    """What an address asks for.

    Attributes:
        where: which runs.
        order: in which order.
        values: the fields as they were given, without empty ones.
        wrong: what is wrong, by the field; ``where`` is then not to be used.
    """

    where: RunFilter
    order: Order
    values: Mapping[str, str]
    wrong: Mapping[str, str]

    @property
    def query(self) -> str:
        """The filters and the order as an address has them, always in the same way."""
        return urlencode(self.values)


def read_filters(given: Mapping[str, str]) -> Wanted:
    """Return what the fields of an address ask for; fields that are no filters are ignored."""
    values = {name: storable(given[name].strip()) for name in FIELDS if given.get(name, "").strip()}
    found: dict[str, Any] = {}
    wrong: dict[str, str] = {}
    for name, text in values.items():
        if not is_storable(given[name]):
            wrong[name] = f"It {UNSTORABLE}."
            continue
        try:
            found |= _field(name, text)
        except ValueError as error:
            wrong[name] = str(error)
    order: Order = found.pop("order", "created")
    return Wanted(RunFilter() if wrong else RunFilter(**found), order, values, wrong)


def _field(name: str, text: str) -> dict[str, Any]:
    """Return the part of the filter that a field stands for.

    Raises:
        ValueError: the field is wrong; the message says how.
    """
    if name in DAYS:
        return {DAYS[name]: _moment(text, is_end=name.endswith("_to"))}
    if name in ("brand_id", "project_id"):
        return {name: _id(text)}
    if name == "archived":
        return {name: _one_of(text, ("yes",)) == "yes"}
    if name == "status":
        return {name: _one_of(text, STATUSES)}
    if name == "order":
        return {name: _one_of(text, get_args(Order))}
    if len(text) > MOST_CHARACTERS[name]:
        raise ValueError(f"At most {MOST_CHARACTERS[name]} characters; this has {len(text):,}.")
    if name == "text" and not any(map(str.isalnum, text)):
        raise ValueError("There is no word in it to search for.")
    return {name: text}


def _moment(text: str, *, is_end: bool) -> datetime:
    """Return when a day begins in UTC, or when it has ended."""
    try:
        day = date.fromisoformat(text)
        start = datetime.combine(day, time(), UTC)
        return start + timedelta(days=1) if is_end else start
    except (ValueError, OverflowError):
        raise ValueError("Give a day as 2026-11-25.") from None


def _id(text: str) -> UUID:
    try:
        return UUID(text)
    except ValueError:
        raise ValueError("There is none of that id.") from None


def _one_of(text: str, known: tuple[str, ...]) -> str:
    if text not in known:
        raise ValueError(f"It can be {', '.join(known)}.")
    return text
