"""Renders the pages: whole ones, and the parts of them that change while they are open."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from types import MappingProxyType
from typing import Any

from aiohttp import web
from markupsafe import Markup

from api.auth.actors import ACTOR
from api.http.templates import templates_in
from api.services import services
from api.ui import run_words, usage_words
from api.ui.durations import duration
from api.ui.frame import read_frame
from api.ui.run_actions import done_words
from api.ui.static import static_url
from vm_webapp.db.pool import transaction
from vm_webapp.runs.records import RunRecord, RunStatus, StageStatus
from vm_webapp.text import escaped, isolated, sentence, single_line

NOTHING: Mapping[str, Any] = MappingProxyType({})
LONGEST_EXCERPT = 140  # characters
STATUS_WORDS: Mapping[RunStatus | StageStatus, str] = {
    "pending": "not started",
    "queued": "queued",
    "running": "running",
    "waiting_approval": "waiting for review",
    "completed": "done",
    "failed": "failed",
    "canceled": "canceled",
}
UNITS = (("day", 86_400), ("h", 3600), ("min", 60))

_ENVIRONMENT = templates_in(Path(__file__).parent / "templates")


def page(template: str, *, status: int = 200, headers: dict[str, str] | None = None, **values: object) -> web.Response:
    """Return a page that no cache keeps: the button that goes back must not show it to the next person.

    Args:
        template: the name of its file.
        status: the status of the response.
        headers: further headers.
        values: what the template shows.
    """
    return _html(_ENVIRONMENT.get_template(template).render(values), status=status, headers=headers)


async def site_page(
    request: web.Request,
    template: str,
    read: Callable[[], Mapping[str, Any]] = lambda: NOTHING,
    *,
    status: int = 200,
    **values: object,
) -> web.Response:
    """Return a page of the workspace, or only what changes of it while it is open, if htmx asks for that.

    Args:
        request: the request.
        template: the name of its file. It extends ``layout``, and what changes stands in its block ``live``.
        read: returns further values from the database; called on a thread, on which the page is also rendered.
        status: the status of the response.
        values: what the template shows.
    """
    own, actor = services(request), request[ACTOR]

    def build() -> str:
        with transaction(durable=False):
            found = {"frame": read_frame(own, actor), **read()}
        return _ENVIRONMENT.get_template(template).render(
            layout="fragment.html" if wants_fragment(request) else "site.html",
            path=request.rel_url.raw_path,
            address=request.rel_url.raw_path_qs,
            now=datetime.now(UTC),
            currency=own.settings.model_prices.currency if own.settings.model_prices else None,
            **values,
            **found,
        )

    return _html(await own.threads.run(build), status=status)


def wants_fragment(request: web.Request) -> bool:
    """Return whether htmx asks for what changes of a page, and not for all of it."""
    return request.headers.get("HX-Request") == "true"


def _html(text: str, *, status: int, headers: dict[str, str] | None = None) -> web.Response:
    kept = {"Cache-Control": "no-store", "Vary": "HX-Request"}
    return web.Response(text=text, status=status, content_type="text/html", headers=kept | (headers or {}))


def minute(moment: datetime) -> Markup:
    """Return a time in UTC to the minute; the page's script shows it in the reader's own zone."""
    return Markup('<time datetime="{}">{:%Y-%m-%d %H:%M} UTC</time>').format(_iso(moment), moment.astimezone(UTC))


def ago(moment: datetime, now: datetime) -> Markup:
    """Return how long ago a time was, which the page's script keeps up to date."""
    return Markup('<time datetime="{}" data-ago title="{:%Y-%m-%d %H:%M} UTC">{}</time>').format(
        _iso(moment), moment.astimezone(UTC), _ago((now - moment).total_seconds())
    )


def excerpt(text: str) -> str:
    """Return the beginning of a text on one line; if nothing in it can be seen, its characters by their codes."""
    line = single_line(text)
    begin = line[:LONGEST_EXCERPT].rstrip()
    # It is the text of links: one without width could not be clicked, or heard.
    if not any(each.isprintable() for each in begin.replace(" ", "")):
        begin = escaped(begin)[:LONGEST_EXCERPT]
    return begin if len(line) <= LONGEST_EXCERPT else f"{begin} …"


def isolated_words(words: str) -> str:
    """Return words of a title or an attribute, of which people have written some, with their direction kept to them."""
    kept = isolated(words)
    return Markup(kept) if isinstance(words, Markup) else kept  # noqa: S704  # it was markup, and nothing was added


def stage_in_hand(run: RunRecord) -> str:
    """Return what a running run does just now."""
    return next((f"writes {stage.title}" for stage in run.stages if stage.status == "running"), "between two stages")


def days(project: Any) -> str:
    """Return from when to when a project lasts, of which it may have either."""
    if project.starts_on and project.ends_on:
        return f"{project.starts_on} to {project.ends_on}"
    return f"from {project.starts_on}" if project.starts_on else f"until {project.ends_on}"


def lasted(run: RunRecord, now: datetime) -> str:
    """Return how long a run has taken since it began, until now if it has not ended."""
    return duration(((run.finished_at or now) - (run.started_at or run.created_at)).total_seconds())


def _ago(seconds: float) -> str:
    # The script says the same in the same words.
    for unit, length in UNITS:
        if seconds >= length:
            number = int(seconds // length)
            return f"{number} {unit}{'s' if unit == 'day' and number > 1 else ''} ago"
    return "just now"


def _iso(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


_ENVIRONMENT.filters |= {
    "minute": minute,
    "ago": ago,
    "excerpt": excerpt,
    "isolated": isolated_words,
    "sentence": sentence,
    "days": days,
    "seconds": duration,
    "lasted": lasted,
    "stage_in_hand": stage_in_hand,
    "done_words": done_words,
    "status_words": STATUS_WORDS.__getitem__,
    **run_words.FILTERS,
    **usage_words.FILTERS,
}
_ENVIRONMENT.globals |= {"static": static_url}
