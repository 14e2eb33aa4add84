"""The files that pages refer to: read and compressed once, named by what they contain, so that browsers keep them."""

from __future__ import annotations

import gzip
import hashlib
import mimetypes
from pathlib import Path

from aiohttp import web

from api.http.etags import is_known
from api.http.problems import Handler

FOLDER = Path(__file__).parent / "static"
PATH = "/static"
YEAR_SECONDS = 31_536_000
FILES = sorted(file for file in FOLDER.rglob("*") if file.is_file())


def static_files() -> dict[str, Handler]:
    """Return a handler for each file, by its path."""
    return {f"{PATH}/{_name(file)}": _serving(file) for file in FILES}


def static_url(name: str) -> str:
    """Return the address of a file as it is now: what has this address never changes."""
    return f"{PATH}/{name}?v={_TAGS[name]}"


def _name(file: Path) -> str:
    return file.relative_to(FOLDER).as_posix()


def _serving(file: Path) -> Handler:
    body = file.read_bytes()
    packed = gzip.compress(body, mtime=0)
    type_ = mimetypes.guess_type(file.name)[0] or "application/octet-stream"
    # By the content: every build and every process has the same tag for the same file.
    version = _TAGS[_name(file)]
    tag = f'"{version}"'  # sent as a weak one: the compressed bytes are others

    async def serve(request: web.Request) -> web.Response:
        # An older page asks for an older version, and gets what there is: that must not be kept under its address.
        current = request.query.get("v") == version
        kept = f"public, max-age={YEAR_SECONDS}, immutable" if current else "no-cache"
        headers = {"ETag": f"W/{tag}", "Cache-Control": kept, "Vary": "Accept-Encoding"}
        if is_known(request, tag):
            return web.Response(status=304, headers=headers)
        if "gzip" not in request.headers.get("Accept-Encoding", ""):
            return web.Response(body=body, content_type=type_, charset="utf-8", headers=headers)
        headers["Content-Encoding"] = "gzip"
        return web.Response(body=packed, content_type=type_, charset="utf-8", headers=headers)

    return serve


_TAGS = {_name(file): hashlib.sha256(file.read_bytes()).hexdigest()[:32] for file in FILES}
