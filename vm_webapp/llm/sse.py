"""Server-sent events as bytes arrive (WHATWG HTML, section 9.2), as far as a model's stream needs them."""

from __future__ import annotations

from collections.abc import AsyncIterator


async def event_data(chunks: AsyncIterator[bytes]) -> AsyncIterator[str]:
    """Yield the data of each event; comments and other fields are dropped.

    A line that the stream broke off in is dropped, as the standard says; a missing last empty line is forgiven.
    Lines end at CR LF or LF alone: ``str.splitlines`` would also split at U+2028, which may stand inside JSON.
    """
    buffer = b""
    data: list[bytes] = []
    async for chunk in chunks:
        buffer += chunk
        *lines, buffer = buffer.split(b"\n")
        for line in lines:
            line = line.removesuffix(b"\r")
            if not line and data:
                yield b"\n".join(data).decode(errors="replace")
                data = []
            elif line.startswith(b"data:"):
                data.append(line[5:].removeprefix(b" "))
    if data:
        yield b"\n".join(data).decode(errors="replace")
