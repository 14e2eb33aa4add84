"""What a run's model has written of the stage in hand, for those who begin to follow the run in the middle of it."""

from __future__ import annotations

import json


class LiveText:
    """The text of one attempt, from the pieces that workers publish.

    A worker that sees further listeners sends everything from the start once more; who has heard it gets the rest only.
    """

    def __init__(self) -> None:
        self._attempt: tuple[str, int] | None = None
        self._text: str | None = None  # None while its beginning is missing

    def take(self, notice: str) -> str | None:
        """Add a piece; return what followers have not heard of it, None if they have heard all of it.

        Args:
            notice: a ``StageProgress`` as JSON; anything else is passed on as it is.
        """
        try:
            piece = json.loads(notice)
            attempt, offset, text = (piece["stage"], piece["attempt"]), int(piece["offset"]), str(piece["text"])
        except (ValueError, TypeError, KeyError):
            return notice
        if attempt != self._attempt or self._text is None:
            self._attempt, self._text = attempt, text if offset == 0 else None
            return notice
        end = len(self._text)
        if offset > end:  # a piece was lost on the way
            self._text = None
            return notice
        further = text[end - offset :]
        if not further:
            return None
        self._text += further
        return notice if offset == end else json.dumps(piece | {"offset": end, "text": further})

    def whole(self) -> str:
        """Return all that was written as one piece, empty where its beginning is missing."""
        if self._attempt is None or not self._text:
            return ""
        stage, attempt = self._attempt
        return json.dumps({"stage": stage, "attempt": attempt, "offset": 0, "text": self._text})
