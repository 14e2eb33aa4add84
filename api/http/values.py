"""Types of single values: how a caller must write them, and how a response writes them.

The values of a query are text. Pydantic alone would accept more spellings than the API documents: 5.0 and 1_0 for
integers, seconds since 1970 for times.
"""

from __future__ import annotations

import re
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Annotated, Any

from pydantic import AfterValidator, AwareDatetime, BeforeValidator, PlainSerializer, WithJsonSchema
from pydantic_core import PydanticCustomError

from vm_webapp.prices import money_text

YEARS = range(2000, 9001)  # far from the limits of Python and PostgreSQL, whatever the time zone


def refusal(message: str) -> PydanticCustomError:
    """Return the error that a validator raises to report exactly this message."""
    # The text of a ValueError would get pydantic's prefix, "Value error, ". The message is an argument, because it may
    # hold braces, which pydantic would take for a placeholder.
    return PydanticCustomError("refused", "{message}", {"message": message})


def _written_as(pattern: str, wanted: str) -> BeforeValidator:
    spelling = re.compile(pattern)

    def check(value: Any) -> Any:
        if isinstance(value, str) and not spelling.fullmatch(value):
            raise refusal(f"must be {wanted}")
        return value

    return BeforeValidator(check)


def _storable(moment: datetime) -> datetime:
    """Return the same moment in UTC, because PostgreSQL refuses offsets of 16 hours or more."""
    if moment.year not in YEARS:
        raise refusal(f"must lie in the years {YEARS[0]} to {YEARS[-1]}")
    return moment.astimezone(UTC)


def _in_years(day: date) -> date:
    if day.year not in YEARS:
        raise refusal(f"must lie in the years {YEARS[0]} to {YEARS[-1]}")
    return day


def _rfc3339(moment: datetime) -> str:
    # The database's are in UTC: a page of runs has hundreds.
    utc = moment if moment.tzinfo is UTC else moment.astimezone(UTC)
    return f"{utc.isoformat(timespec='microseconds')[:-6]}Z"


def _whole_if_integral(value: Any) -> Any:
    """Return 5 for 5.0: JSON has one kind of number, and many programs write whole ones with a fraction of zero."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


AS_JSON_WHOLE = BeforeValidator(_whole_if_integral)
Flag = Annotated[bool, _written_as("true|false", "true or false")]
AS_WHOLE = _written_as(r"-?[0-9]{1,19}", "a whole number")
Whole = Annotated[int, AS_WHOLE]
Seconds = Annotated[float, _written_as(r"-?[0-9]{1,9}(\.[0-9]{1,9})?", "a number of seconds")]
Instant = Annotated[
    AwareDatetime,
    _written_as(
        r"\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(\.\d+)?([Zz]|[+-]\d\d:\d\d)", "a time such as 2026-11-25T08:30:00Z"
    ),
    AfterValidator(_storable),
    WithJsonSchema({"type": "string", "format": "date-time", "pattern": "^([2-8][0-9]{3}|9000)-"}),
]
Money = Annotated[
    Decimal,
    PlainSerializer(money_text, return_type=str),
    WithJsonSchema({"type": "string", "pattern": r"^[0-9]+(\.[0-9]+)?$"}),
]
"""A sum of money in a response: text, since a number of JSON is a float to most programs."""
Day = Annotated[
    date,
    _written_as(r"\d{4}-\d\d-\d\d", "a day such as 2026-11-25"),
    AfterValidator(_in_years),
    WithJsonSchema({"type": "string", "format": "date", "pattern": "^([2-8][0-9]{3}|9000)-"}),
]
Moment = Annotated[
    datetime, PlainSerializer(_rfc3339, return_type=str), WithJsonSchema({"type": "string", "format": "date-time"})
]
