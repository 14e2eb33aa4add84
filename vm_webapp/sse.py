"""Parses server-sent events (WHATWG HTML, section 9.2): the streams of a model's server and of a run's timeline."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from dataclasses import dataclass

LINE_END = re.compile(rb"\r\n|\n|\r")
BYTE_ORDER_MARK = b"\xef\xbb\xbf"
DEFAULT_TYPE = "message"
MAX_RETRY_DIGITS = 9  # of milliseconds: eleven days


@dataclass(frozen=True, slots=True)
class ServerEvent:
    """An event of a stream.

    Attributes:
        type: its ``event`` field, ``message`` if it has none.
        data: its ``data`` lines, joined by newlines.
        last_id: the newest ``id`` so far, which may be an earlier event's; empty if there was none.
    """

    type: str
    data: str
    last_id: str


class EventReader:
    """Parses the stream of one connection, in chunks of any size.

    Attributes:
        last_id: the newest ``id`` of the events yielded: the ``Last-Event-ID`` of the next connection.
        retry_seconds: how long the server asks to wait before that connection, None if it has not asked.

    Args:
        last_id: the newest ``id`` of earlier connections.
    """

    def __init__(self, last_id: str = "") -> None:
        self.last_id = last_id
        self.retry_seconds: float | None = None
        self._id = last_id
        self._type = ""
        self._data: list[bytes] = []
        self._line: list[bytes] = []  # the pieces of a line that has not ended
        self._at_start = True
        self._after_cr = False

    async def read(self, chunks: AsyncIterator[bytes]) -> AsyncIterator[ServerEvent]:
        """Yield each event as soon as it is complete.

        If the stream ends within a line, that line is dropped, as the standard says. An event whose final empty line
        is missing is yielded all the same: model servers leave it out.
        """
        async for chunk in chunks:
            for line in self._lines(chunk):
                if line:
                    self._take(line)
                elif event := self._end_event():
                    yield event
        # An id without data is not an event: ``last_id`` must not advance, or the next connection would skip it.
        if self._data and (event := self._end_event()):
            yield event

    def _lines(self, chunk: bytes) -> list[bytes]:
        """Return the lines that end within a chunk: at CR LF, LF or CR.

        ``str.splitlines`` would also split at U+2028, which JSON may contain. A CR ends its line at once; an LF at the
        start of the next chunk belongs to it.
        """
        if self._after_cr and chunk:
            self._after_cr = False
            chunk = chunk.removeprefix(b"\n")
        *lines, rest = LINE_END.split(chunk)
        self._after_cr = self._after_cr or chunk.endswith(b"\r")
        if lines:
            # Pieces are joined once per line: appending each chunk to a growing string takes quadratic time.
            if self._line:
                lines[0] = b"".join((*self._line, lines[0]))
                self._line.clear()
            if self._at_start:
                self._at_start = False
                lines[0] = lines[0].removeprefix(BYTE_ORDER_MARK)
        if rest:
            self._line.append(rest)
        return lines

    def _take(self, line: bytes) -> None:
        name, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if name == b"data":
            self._data.append(value)
        elif name == b"event":
            self._type = value.decode(errors="replace")
        elif name == b"error" and value.startswith(b"{"):
            # Not in the standard, which would drop the line: llama.cpp reports a failure within a stream like this.
            self._type = "error"
            self._data.append(value)
        elif name == b"id" and b"\0" not in value:
            self._id = value.decode(errors="replace")
        elif name == b"retry" and value.isdigit() and len(value) <= MAX_RETRY_DIGITS:
            self.retry_seconds = int(value) / 1000

    def _end_event(self) -> ServerEvent | None:
        named, self._type = self._type, ""
        data, self._data = self._data, []
        self.last_id = self._id
        if not data:
            return None
        return ServerEvent(named or DEFAULT_TYPE, b"\n".join(data).decode(errors="replace"), self.last_id)
