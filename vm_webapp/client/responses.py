"""A response of the API, and the only code that reads its problems (RFC 9457)."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

PROBLEMS = "/problems/"


@dataclass(frozen=True, slots=True)
class ApiResponse:
    """A complete response.

    Attributes:
        request: the request's method and its path below ``/api/v2``.
        status: the HTTP status.
        reason: the reason phrase, which may be empty.
        content: the body.
    """

    request: str
    status: int
    reason: str
    content: bytes

    @property
    def ok(self) -> bool:
        """Whether the status is a success."""
        return 200 <= self.status < 300

    @property
    def missing(self) -> str | None:
        """What the body lacks to be a response of this API: "JSON" or "an object"; None if it is a JSON object."""
        try:
            body = self._body()
        except ValueError:
            return "JSON"
        return None if isinstance(body, dict) else "an object"

    @property
    def fields(self) -> dict[str, Any]:
        """The JSON object in the body; empty if the body holds no JSON object."""
        try:
            body = self._body()
        except ValueError:
            return {}
        return body if isinstance(body, dict) else {}

    @property
    def problem(self) -> str | None:
        """The last part of the problem's type, None if the body is not a problem of this API."""
        kind = str(self.fields.get("type", ""))
        return kind.rpartition("/")[2] if kind.startswith(PROBLEMS) else None

    @property
    def detail(self) -> str:
        """The problem's detail; the reason phrase if there is none."""
        return str(self.fields.get("detail", self.reason))

    def _body(self) -> object:
        try:
            return json.loads(self.content)
        except RecursionError as error:  # from JSON of whatever else may listen at the address
            raise ValueError("the body is nested too deeply") from error
