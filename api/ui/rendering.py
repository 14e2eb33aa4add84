"""Renders the pages."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from aiohttp import web

from api.http.templates import templates_in

_ENVIRONMENT = templates_in(Path(__file__).parent / "templates")


def page(template: str, *, status: int = 200, headers: dict[str, str] | None = None, **values: object) -> web.Response:
    """Return a page that no cache keeps: the button that goes back must not show it to the next person.

    Args:
        template: the name of its file.
        status: the status of the response.
        headers: further headers.
        values: what the template shows.
    """
    return web.Response(
        text=_ENVIRONMENT.get_template(template).render(values),
        status=status,
        content_type="text/html",
        headers={"Cache-Control": "no-store"} | (headers or {}),
    )


def _minute(moment: datetime) -> str:
    return f"{moment.astimezone(UTC):%Y-%m-%d %H:%M} UTC"


_ENVIRONMENT.filters["minute"] = _minute
