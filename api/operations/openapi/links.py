"""What a client can do next with a response: links to other operations, which take their values from it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Link:
    """A link from a response to an operation.

    Attributes:
        operation: the ``operationId`` of the operation.
        description: when to follow it.
        parameters: its parameters: runtime expressions such as ``$response.body#/id``.
        body: its body, in which text may be a runtime expression.
    """

    operation: str
    description: str
    parameters: dict[str, str] = field(default_factory=dict)
    body: dict[str, Any] = field(default_factory=dict)

    def described(self) -> dict[str, Any]:
        """Return the link as the document has it."""
        entry: dict[str, Any] = {"operationId": self.operation, "description": self.description}
        if self.parameters:
            entry["parameters"] = self.parameters
        if self.body:
            entry["requestBody"] = self.body
        return entry
