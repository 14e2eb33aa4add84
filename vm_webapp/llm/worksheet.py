"""Writes a worksheet in place of a model's text: questions and tables with which a person can write the artifact.

The same assignment gives the same bytes, and the first line says that no model was called.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import date, timedelta
from typing import Any

from vm_webapp.llm.base import Assignment, Section
from vm_webapp.text import single_line

FIRST_LINE = "> Worksheet: no model was called, because none is configured (set KIMI_API_KEY to have it written)."
QUARTER_WEEKS = 13
MAX_WEEKS = 27
BLANK_ROWS = 3
QUESTION_WORDS = frozenset({"what", "which", "who", "whom", "whose", "where", "when", "why", "how"})


def write_worksheet(assignment: Assignment) -> str:
    """Return the worksheet, in Markdown."""
    parts = [FIRST_LINE, f"# {assignment.stage_title}", f"_{assignment.workflow_title}_", *_given(assignment)]
    if assignment.feedback:
        parts += ["## Changes asked for", _quote(assignment.feedback)]
    if assignment.earlier:
        parts += ["## Read first", _bullets(f"{title} (`{key}`)" for key, title in assignment.earlier)]
    for section in assignment.sections:
        parts += _section(assignment, section)
    parts += ["## Before this is used", _boxes(_checks(assignment))]
    return "\n\n".join(parts) + "\n"


def _given(assignment: Assignment) -> Iterator[str]:
    yield "## What is given"
    yield _quote(assignment.request)
    facts = list(_facts(assignment.brand, assignment.project))
    if facts:
        yield _table(("What", "As given"), facts)


def _facts(brand: Mapping[str, Any] | None, project: Mapping[str, Any] | None) -> Iterator[tuple[str, str]]:
    for label, source in (("Brand", brand), ("Project", project)):
        for field, value in (source or {}).items():
            if value:
                yield f"{label}: {field.replace('_', ' ')}", _joined(value)


def _section(assignment: Assignment, section: Section) -> list[str]:
    questions = section.questions or (f"What does the reader need to know about {section.heading.lower()}?",)
    return [f"## {section.heading}", _boxes(questions), _to_fill_in(assignment, section)]


def _to_fill_in(assignment: Assignment, section: Section) -> str:
    """Return where the writer begins: a table of the facts given for this heading, or an empty draft."""
    brand, project = assignment.brand or {}, assignment.project or {}
    columns = next((fields for question in section.questions if (fields := _fields(question))), ())

    def about(*words: str) -> bool:
        return re.search(rf"\b({'|'.join(words)})", section.heading, re.IGNORECASE) is not None

    # "How to read this calendar" explains a calendar and is not one.
    if about("by week", "calendar", "timeline", "roadmap", "schedule") and not about("how to"):
        further = tuple(column for column in columns if column.lower() not in ("date", "week", "day"))
        return _rows(("Week", *(further or ("Channel", "Subject", "Owner"))), _weeks(project))
    if about("channel") and project.get("channels"):
        return _rows(("Channel", *(columns or ("Goal", "First action"))), project["channels"])
    if about("audience", "segment", "customer", "visitor"):
        return _rows(
            ("Segment", "What they want", "What holds them back"), [brand.get("audience") or "(from the request)", ""]
        )
    if about("proof", "evidence") and brand.get("facts"):
        return _rows(("Fact, as given", "Claim it carries"), brand["facts"])
    if about("vocabulary", "must not") and brand.get("forbidden_words"):
        return _rows(("Avoid", "Say instead"), brand["forbidden_words"])
    if about("objective") and project.get("objective"):
        return _rows(("Objective, as given", "Counted how", "Today", "Target", "By when"), [project["objective"]])
    return _rows(columns, [""] * BLANK_ROWS) if columns else "**Draft:** …"


def _fields(question: str) -> tuple[str, ...]:
    """Return the columns that a question lists ("Indicator, source, target?"); empty if it is a sentence."""
    listed = re.sub(r" (of|for) each\b.*", "", question.strip().rstrip("?"))
    fields = [field.strip() for field in re.split(r",| and ", listed) if field.strip()]
    asks = QUESTION_WORDS & set(" ".join(fields[:2]).lower().split())
    if len(fields) < 3 or asks or any(len(field.split()) > 4 for field in fields):
        return ()
    return tuple(field[0].upper() + field[1:] for field in fields)


def _weeks(project: Mapping[str, Any]) -> list[str]:
    """Return the first day of each week of the project; if it has no dates, the numbered weeks of a quarter."""
    if not project.get("starts_on"):
        return [f"Week {number}" for number in range(1, QUARTER_WEEKS + 1)]
    first = date.fromisoformat(project["starts_on"])
    ends_on = project.get("ends_on")
    weeks = (date.fromisoformat(ends_on) - first).days // 7 + 1 if ends_on else QUARTER_WEEKS
    days = [(first + timedelta(weeks=week)).isoformat() for week in range(min(weeks, MAX_WEEKS))]
    return days if weeks <= MAX_WEEKS else [*days, f"… to {ends_on}"]


def _checks(assignment: Assignment) -> Iterator[str]:
    yield "Every figure has a source."
    yield "Every assumption is written down where the reader meets it."
    if assignment.brand is None:
        yield "Voice, audience and facts are agreed: this run has no brand."
    if assignment.project is None:
        yield "Objective, channels and dates are agreed: this run has no project."
    for word in (assignment.brand or {}).get("forbidden_words") or ():
        yield f"“{word}” does not appear."


def _quote(text: str) -> str:
    return "\n".join(f"> {line}".rstrip() for line in text.strip().splitlines()) or "> (nothing)"


def _bullets(items: Iterable[str]) -> str:
    return "\n".join(f"- {single_line(item)}" for item in items)


def _boxes(items: Iterable[str]) -> str:
    return "\n".join(f"- [ ] {single_line(item)}" for item in items)


def _rows(head: tuple[str, ...], first_cells: Sequence[object]) -> str:
    """Return a table with the first cell of each row filled in."""
    return _table(head, [(_joined(cell), *[""] * (len(head) - 1)) for cell in first_cells])


def _table(head: tuple[str, ...], body: Sequence[tuple[str, ...]]) -> str:
    lines = [head, tuple("---" for _ in head), *body]
    return "\n".join("| " + " | ".join(_cell(text) for text in line) + " |" for line in lines)


def _cell(text: str) -> str:
    # The backslash first: a backslash in the text would otherwise escape the one that escapes the pipe.
    return single_line(text).replace("\\", "\\\\").replace("|", "\\|")


def _joined(value: object) -> str:
    return "; ".join(str(item) for item in value) if isinstance(value, list | tuple) else str(value)
