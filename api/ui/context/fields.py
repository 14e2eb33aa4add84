"""The fields of a brand's and a project's form: what is shown of a record, and what is read of a form."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date
from typing import Any, Literal
from uuid import UUID

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from api.schemas.resources import ResourceType
from api.ui.budget_fields import MONEY, TOKENS, read_budget
from api.ui.forms import TAKEN_OUT
from vm_webapp.errors import InvalidInput
from vm_webapp.prices import money_text
from vm_webapp.settings import Settings
from vm_webapp.text import is_storable, sentence

Control = Literal["line", "prose", "list", "number", "zone", "day", "brand", "budget"]

DIGITS = re.compile(r"[0-9]{1,9}")


class InvalidForm(Exception):
    """A form that cannot be stored.

    Attributes:
        wrong: what is wrong, by the name of the field.
    """

    def __init__(self, wrong: Mapping[str, str]) -> None:
        super().__init__("; ".join(wrong.values()))
        self.wrong = wrong


def wrong_in(error: InvalidForm | InvalidInput) -> Mapping[str, str]:
    """Return what is wrong, by the name of the field."""
    if isinstance(error, InvalidForm):
        return error.wrong
    return {error.pointer.strip("/"): sentence(str(error))}


@dataclass(frozen=True, slots=True)
class FormField:
    """A field of a form.

    Attributes:
        name: its name in the form, and in the record; ``budget`` stands for the two fields of a budget.
        label: what people see.
        control: what it is filled in with.
        hint: what it is for.
        example: shown in a field that is empty.
    """

    name: str
    label: str
    control: Control
    hint: str = ""
    example: str = ""

    @property
    def names(self) -> tuple[str, ...]:
        """The names that it has in the form."""
        return (TOKENS, MONEY) if self.control == "budget" else (self.name,)


def texts_of(record: Any, fields: tuple[FormField, ...]) -> dict[str, str]:
    """Return what the fields hold for a stored record."""
    texts: dict[str, str] = {}
    for field in fields:
        if field.control == "budget":
            tokens, money = record.day_budget_tokens, record.day_budget_money
            texts |= {TOKENS: "" if tokens is None else str(tokens), MONEY: "" if money is None else money_text(money)}
        else:
            texts[field.name] = _text(getattr(record, field.name))
    return texts


def read_values(
    form: Mapping[str, str], fields: tuple[FormField, ...], kind: ResourceType, settings: Settings
) -> dict[str, Any]:
    """Return the values that a form gives a record.

    Args:
        form: its fields.
        fields: those that it can have.
        kind: checks the values as the API does.
        settings: with the price table, for budgets.

    Raises:
        InvalidForm: fields are wrong; all of them are named.
    """
    values: dict[str, Any] = {}
    wrong: dict[str, str] = {}
    for field in fields:
        try:
            for name in field.names:
                if not is_storable(form.get(name, "")):
                    raise InvalidInput(TAKEN_OUT, pointer=f"/{name}")
            if field.control != "budget":
                values[field.name] = _READERS[field.control](form.get(field.name, "").strip(), field.name)
            elif budget := read_budget(form, settings):
                values["day_budget"] = {"tokens": budget.tokens, "money": budget.money}
            else:
                values["day_budget"] = None
        except InvalidInput as error:
            wrong[error.pointer.strip("/")] = str(error)
    # A budget was checked above, and what could not even be read needs no second complaint.
    checked = {name: value for name, value in values.items() if name != "day_budget"}
    try:
        values |= kind.change.model_validate(checked, strict=False).model_dump(include=set(checked))
    except ValidationError as error:
        for found in error.errors():
            wrong.setdefault(str(found["loc"][0]), _words(found))
    if wrong:
        raise InvalidForm(wrong)
    return values


def changed_only(
    values: Mapping[str, Any], form: Mapping[str, str], record: Any, fields: tuple[FormField, ...]
) -> dict[str, Any]:
    """Return the values whose fields a person has changed.

    A form sends every field. What was only sent back must not be checked or stored anew: a brand that was archived
    since, or a line of a list that has a line end in it.
    """
    stored = texts_of(record, fields)
    changed = dict(values)
    for field in fields:
        if all(form.get(name, "").strip() == stored[name].strip() for name in field.names):
            changed.pop("day_budget" if field.control == "budget" else field.name, None)
    return changed


def _text(value: Any) -> str:
    if value is None:
        return ""
    return "\n".join(value) if isinstance(value, list) else str(value)


def _lines(text: str, _: str) -> list[str]:
    return [line.strip() for line in text.split("\n") if line.strip()]


def _number(text: str, name: str) -> int | None:
    if text and not DIGITS.fullmatch(text):
        raise InvalidInput("Write a whole number, such as 5, or leave it empty.", pointer=f"/{name}")
    return int(text) if text else None


def _day(text: str, name: str) -> date | None:
    try:
        return date.fromisoformat(text) if text else None
    except ValueError:
        raise InvalidInput("Write a day as 2026-03-31, or leave it empty.", pointer=f"/{name}") from None


def _brand(text: str, name: str) -> UUID | None:
    try:
        return UUID(text) if text else None
    except ValueError:
        raise InvalidInput("Pick a brand of the list.", pointer=f"/{name}") from None


_READERS: Mapping[Control, Callable[[str, str], Any]] = {
    "line": lambda text, _: text,
    "prose": lambda text, _: text,
    "list": _lines,
    "number": _number,
    "zone": lambda text, _: text or "UTC",
    "day": _day,
    "brand": _brand,
}


def _words(found: ErrorDetails) -> str:
    """Say in plain words what the API says of a value."""
    context, value, place = found.get("ctx", {}), found["input"], found["loc"]
    line = f"Line {place[1] + 1}: " if len(place) > 1 and isinstance(place[1], int) else ""
    match found["type"]:
        case "string_too_short":
            return "Give it a name."
        case "string_too_long":
            most = f"at most {context['max_length']:,} characters; this has {len(value):,}."
            return f"{line}{most}" if line else most.capitalize()
        case "too_long":
            return f"At most {context['max_length']:,} lines; these are {context['actual_length']:,}."
        case "greater_than_equal" | "less_than_equal":
            return "Write a number from 1 to 10,000, or leave it empty."
        case _:
            return f"{line}{found['msg']}."
