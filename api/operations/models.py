"""The base classes of all request and response models."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict


class Input(BaseModel):
    """Base of everything that a caller sends; refuses unknown fields."""

    model_config = ConfigDict(extra="forbid")


class Output(BaseModel):
    """Base of every response body; reads the core's records by their attributes."""

    model_config = ConfigDict(from_attributes=True)

    @classmethod
    def json_of(cls, records: Any, context: Mapping[Any, Any]) -> str:
        """Return the JSON of the core's records; ``context`` is what validators may use."""
        return cls.model_validate(records, context=context).model_dump_json()
