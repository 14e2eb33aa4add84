"""The files that pages refer to: read once, and fetched again only when they have changed."""

from __future__ import annotations

import hashlib
import mimetypes
from pathlib import Path

from aiohttp import web

from api.http.etags import is_known
from api.http.problems import Handler

FOLDER = Path(__file__).parent / "static"


def static_files() -> dict[str, Handler]:
    """Return a handler for each file, by its path."""
    return {f"/static/{file.name}": _serving(file) for file in sorted(FOLDER.iterdir()) if file.is_file()}


def _serving(file: Path) -> Handler:
    body = file.read_bytes()
    type_ = mimetypes.guess_type(file.name)[0] or "application/octet-stream"
    # By the content: every build and every process has the same tag for the same file.
    tag = f'"{hashlib.sha256(body).hexdigest()[:32]}"'
    headers = {"ETag": tag, "Cache-Control": "no-cache"}

    async def serve(request: web.Request) -> web.Response:
        if is_known(request, tag):
            return web.Response(status=304, headers=headers)
        return web.Response(body=body, content_type=type_, charset="utf-8", headers=headers)

    return serve
