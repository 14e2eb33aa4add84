"""An answer of the API, and the one place that reads its problems (RFC 9457)."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

PROBLEMS = "/problems/"


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer, read to its end.

    Attributes:
        asked: what was asked: the method and the path below ``/api/v2``.
        status: the HTTP status.
        reason: the status in words, which may be missing.
        content: the body.
    """

    asked: str
    status: int
    reason: str
    content: bytes

    @property
    def ok(self) -> bool:
        """Whether the status is a success."""
        return 200 <= self.status < 300

    @property
    def lacks(self) -> str | None:
        """What is missing before it can be an answer of this API, None where it is an object in JSON."""
        try:
            body = self._body()
        except ValueError:
            return "JSON"
        return None if isinstance(body, dict) else "an object"

    @property
    def fields(self) -> dict[str, Any]:
        """The object that the body holds, empty where it holds none."""
        try:
            body = self._body()
        except ValueError:
            return {}
        return body if isinstance(body, dict) else {}

    @property
    def problem(self) -> str | None:
        """The last part of the problem's type, None where it is no problem of this API."""
        kind = str(self.fields.get("type", ""))
        return kind.rpartition("/")[2] if kind.startswith(PROBLEMS) else None

    @property
    def detail(self) -> str:
        """What a refusal says of itself."""
        return str(self.fields.get("detail", self.reason))

    def _body(self) -> object:
        try:
            return json.loads(self.content)
        except RecursionError as error:
            raise ValueError("the body is nested too deeply") from error
