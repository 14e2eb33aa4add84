"""Server-sent events as bytes arrive (WHATWG HTML, section 9.2): a model's answer and a run's timeline."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass

LINE_END = re.compile(rb"\r\n|\n|\r")
BYTE_ORDER_MARK = b"\xef\xbb\xbf"
DEFAULT_TYPE = "message"
MOST_RETRY_DIGITS = 9  # of milliseconds: eleven days


@dataclass(frozen=True, slots=True)
class ServerEvent:
    """An event of a stream.

    Attributes:
        type: what its ``event`` field says, ``message`` where it has none.
        data: its ``data`` lines, joined by newlines.
        last_id: the newest ``id`` so far, which may be an earlier event's; empty where there was none.
    """

    type: str
    data: str
    last_id: str


class EventReader:
    """Reads one connection's stream, however the network cuts it.

    Attributes:
        last_id: the newest ``id`` of the events handed out: what ``Last-Event-ID`` says on the next connection.
        retry_seconds: how long the server asks to wait before that, None where it has not asked.

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
        """Yield each event as soon as it is whole.

        A line that the stream broke off in is dropped, as the standard says; a missing last empty line is forgiven.
        """
        async for chunk in chunks:
            for line in self._lines(chunk):
                if line:
                    self._take(line)
                elif event := self._end_event():
                    yield event
        # An id without data is no event: the next connection has to ask for it again.
        if self._data and (event := self._end_event()):
            yield event

    def _lines(self, chunk: bytes) -> Iterator[bytes]:
        """Yield the lines that end within a chunk: at CR LF, LF or CR.

        ``str.splitlines`` would also split at U+2028, which may stand inside JSON. A line that ends at CR does so at
        once: the LF that may come in the next chunk belongs to it.
        """
        if self._after_cr and chunk:
            self._after_cr = False
            chunk = chunk.removeprefix(b"\n")
        *lines, rest = LINE_END.split(chunk)
        self._after_cr = self._after_cr or chunk.endswith(b"\r")
        for line in lines:
            self._line.append(line)
            whole = b"".join(self._line)
            self._line.clear()
            yield whole.removeprefix(BYTE_ORDER_MARK) if self._at_start else whole
            self._at_start = False
        if rest:
            self._line.append(rest)

    def _take(self, line: bytes) -> None:
        name, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if name == b"data":
            self._data.append(value)
        elif name == b"event":
            self._type = value.decode(errors="replace")
        elif name == b"id" and b"\0" not in value:
            self._id = value.decode(errors="replace")
        elif name == b"retry" and value.isdigit() and len(value) <= MOST_RETRY_DIGITS:
            self.retry_seconds = int(value) / 1000

    def _end_event(self) -> ServerEvent | None:
        named, self._type = self._type, ""
        data, self._data = self._data, []
        self.last_id = self._id
        if not data:
            return None
        return ServerEvent(named or DEFAULT_TYPE, b"\n".join(data).decode(errors="replace"), self.last_id)


async def event_data(chunks: AsyncIterator[bytes]) -> AsyncIterator[str]:
    """Yield the data of each event of a stream. See ``EventReader.read``."""
    async for event in EventReader().read(chunks):
        yield event.data
