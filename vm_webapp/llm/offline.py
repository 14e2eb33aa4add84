"""A worksheet instead of a model's text: what a person would need to write the document without one.

The same assignment gives the same bytes, and the first line says that no model was called.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import date, timedelta
from typing import Any

from vm_webapp.llm.base import Assignment, Completion, Section

FIRST_LINE = "> Worksheet: no model was called, because none is configured (set KIMI_API_KEY to have it written)."
MAX_WEEKS = 13


class OfflineProvider:
    """Writes worksheets from the request, the brand, the project and the outline of the stage."""

    name = "offline"
    model: str | None = None

    async def complete(self, assignment: Assignment, *, on_text: Callable[[str], None] | None = None) -> Completion:
        """Return the worksheet for an assignment."""
        text = write_worksheet(assignment)
        if on_text is not None:
            on_text(text)
        return Completion(text, provider=self.name)

    async def aclose(self) -> None:
        """Nothing to close."""


def write_worksheet(assignment: Assignment) -> str:
    """Return the worksheet, in Markdown."""
    parts = [FIRST_LINE, f"# {assignment.stage_title}", f"_{assignment.workflow_title}_", *_given(assignment)]
    if assignment.feedback:
        parts += ["## Changes asked for", _quote(assignment.feedback)]
    if assignment.earlier:
        parts += ["## Read first", _bullets(f"{title} (`{key}`)" for key, title in assignment.earlier)]
    for number, section in enumerate(assignment.sections):
        parts += list(_section(assignment, section, first=number == 0))
    parts += ["## Before this is used", _boxes(_checks(assignment))]
    return "\n\n".join(parts) + "\n"


def _given(assignment: Assignment) -> Iterator[str]:
    yield "## What is given"
    yield _quote(assignment.request)
    facts = list(_facts(assignment.brand, assignment.project))
    if facts:
        yield _table(("What", "As given"), facts)


def _facts(brand: Mapping[str, Any] | None, project: Mapping[str, Any] | None) -> Iterator[tuple[str, str]]:
    for label, source, fields in (
        ("Brand", brand, ("name", "voice", "audience", "products", "facts", "forbidden_words")),
        ("Project", project, ("name", "objective", "channels", "starts_on", "ends_on")),
    ):
        for field in fields:
            value = (source or {}).get(field)
            if value:
                yield f"{label}: {field.replace('_', ' ')}", _inline(value)


def _section(assignment: Assignment, section: Section, *, first: bool) -> Iterator[str]:
    yield f"## {section.heading}"
    yield _boxes(section.questions or (f"What does the reader need to know about {section.heading.lower()}?",))
    heading = section.heading.lower()
    weeks = list(_weeks(assignment.project))
    if weeks and any(word in heading for word in ("week", "calendar", "timeline", "plan", "roadmap")):
        yield _table(("Week of", "Channel", "Subject", "Owner"), [(week, "", "", "") for week in weeks])
    elif "channel" in heading and assignment.project and assignment.project.get("channels"):
        channels = assignment.project["channels"]
        yield _table(("Channel", "Goal", "First action"), [(channel, "", "") for channel in channels])
    elif any(word in heading for word in ("audience", "segment", "customer")):
        known = (assignment.brand or {}).get("audience") or "(from the request)"
        yield _table(("Segment", "What they want", "What holds them back"), [(known, "", ""), ("", "", "")])
    else:
        subject = assignment.request.strip().splitlines()[0][:160]
        start = f"For “{subject}”: …" if first else "…"
        yield f"**Draft:** {start}"


def _weeks(project: Mapping[str, Any] | None) -> Iterator[str]:
    start, end = (project or {}).get("starts_on"), (project or {}).get("ends_on")
    if not start:
        return
    day = date.fromisoformat(start)
    last = date.fromisoformat(end) if end else day + timedelta(weeks=MAX_WEEKS - 1)
    for _ in range(MAX_WEEKS):
        if day > last:
            return
        yield day.isoformat()
        day += timedelta(weeks=1)


def _checks(assignment: Assignment) -> Iterator[str]:
    yield "Every figure has a source."
    yield "Every assumption is written down where the reader meets it."
    for word in (assignment.brand or {}).get("forbidden_words") or ():
        yield f"The word “{word}” does not appear."


def _quote(text: str) -> str:
    return "\n".join(f"> {line}".rstrip() for line in text.strip().splitlines())


def _bullets(items: Iterator[str]) -> str:
    return "\n".join(f"- {item}" for item in items)


def _boxes(items: Sequence[str] | Iterator[str]) -> str:
    return "\n".join(f"- [ ] {item}" for item in items)


def _table(head: tuple[str, ...], body: Sequence[tuple[str, ...]]) -> str:
    lines = [head, tuple("---" for _ in head), *body]
    return "\n".join("| " + " | ".join(_inline(cell) for cell in line) + " |" for line in lines)


def _inline(value: object) -> str:
    text = "; ".join(str(item) for item in value) if isinstance(value, list) else str(value)
    return " ".join(text.split()).replace("|", "\\|")
