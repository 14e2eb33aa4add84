"""What every model of the contract is based on."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Input(BaseModel):
    """Base of everything that a caller sends: unknown fields are refused."""

    model_config = ConfigDict(extra="forbid")


class Output(BaseModel):
    """Base of everything that is answered; reads the core's records."""

    model_config = ConfigDict(from_attributes=True)
