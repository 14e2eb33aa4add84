"""Opaque cursors: a position within a listing, encoded as text."""

from __future__ import annotations

import base64
from datetime import datetime
from uuid import UUID

from pydantic import BaseModel, ConfigDict

from api.http.problems import FieldProblem, RequestError
from api.http.values import Instant


class Cursor(BaseModel):
    """The creation time and the id of the last item of the previous page."""

    model_config = ConfigDict(extra="forbid")

    at: Instant
    id: UUID

    def encode(self) -> str:
        """Return the opaque form."""
        return base64.urlsafe_b64encode(self.model_dump_json().encode()).decode().rstrip("=")

    @classmethod
    def of(cls, position: tuple[datetime, UUID] | None) -> str | None:
        """Return the opaque form of a position, None for None."""
        return cls(at=position[0], id=position[1]).encode() if position else None

    @classmethod
    def position(cls, text: str | None) -> tuple[datetime, UUID] | None:
        """Return the position of an opaque form, None for None.

        Raises:
            RequestError: the text is not a cursor that ``encode`` returned.
        """
        if text is None:
            return None
        found = cls.decode(text)
        return found.at, found.id

    @classmethod
    def decode(cls, text: str) -> Cursor:
        """Return the cursor of an opaque form.

        Raises:
            RequestError: the text is not a cursor that ``encode`` returned.
        """
        try:
            # Without validate=True, Python skips characters outside the alphabet.
            raw = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
            found = cls.model_validate_json(raw)
            # Several texts decode to the same position, in base64 as in JSON. Only the one that we sent is accepted.
            if found.encode() == text:
                return found
        except ValueError:
            pass
        message = "not a cursor of this listing; use next_cursor exactly as the previous page returned it"
        errors = [FieldProblem(parameter="cursor", message=message)]
        raise RequestError(422, "invalid_parameter", f"cursor: {message}", errors=errors)
