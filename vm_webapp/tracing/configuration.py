"""What a process is told about its traces: where they go, under which name, and which of them are recorded."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal
from urllib.parse import unquote

SamplerName = Literal[
    "always_on",
    "always_off",
    "traceidratio",
    "parentbased_always_on",
    "parentbased_always_off",
    "parentbased_traceidratio",
]


@dataclass(frozen=True, slots=True)
class Tracing:
    """The settings of OpenTelemetry's environment variables that are honored.

    Attributes:
        endpoint: the collector's base URL.
        headers: sent with each batch, such as a key.
        resource: attributes of the process; ``service.name`` among them replaces the service's own name.
        sampler: which traces are recorded.
        ratio: of ``traceidratio``: the share of the traces, from 0 to 1.
    """

    endpoint: str
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    resource: Mapping[str, str] = field(default_factory=dict)
    sampler: SamplerName = "parentbased_always_on"
    ratio: float = 1.0


def parse_pairs(text: str) -> dict[str, str]:
    """Return the pairs of a list such as ``name=value,other=value``, whose values are percent-encoded.

    Raises:
        ValueError: an entry is not a pair, or a name or a value could not be sent in a header.
    """
    pairs = {}
    for entry in filter(str.strip, text.split(",")):
        name, equals, value = (part.strip() for part in entry.partition("="))
        decoded = unquote(value)
        if not (equals and name and name.isascii() and name.isprintable() and " " not in name):
            raise ValueError("must be pairs name=value, separated by commas")
        if not decoded.isprintable() or not decoded.isascii():
            raise ValueError("must have values of printable ASCII, percent-encoded")
        pairs[name] = decoded
    return pairs
