"""The timeline in plain words: who did what, event by event."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from api.ui.durations import duration
from vm_webapp.runs.records import EventRecord

Tone = Literal["plain", "good", "bad", "person"]

WORKERS = frozenset({"worker", "rescue"})
FAILURES = frozenset({"stage.retry_scheduled", "stage.failed", "stage.rescued", "run.failed"})


@dataclass(frozen=True, slots=True)
class Entry:
    """An event as a person reads it.

    Attributes:
        text: a sentence, without a full stop.
        quote: what a person said, or None.
        has_text: whether the event keeps what a failed call had written.
        tone: what it means for the run.
    """

    id: int
    at: datetime
    type: str
    text: str
    quote: str | None
    has_text: bool
    tone: Tone


Words = Callable[[str, str, Mapping[str, Any]], str]


def entry_of(event: EventRecord, titles: Mapping[str, str]) -> Entry:
    """Return an event in words.

    Args:
        event: the event. One of a type that this page does not know yet is named by its type.
        titles: the titles of the run's stages by their keys.
    """
    stage = titles.get(event.stage or "", event.stage or "")
    words = WORDS.get(event.type, _of_unknown(event.type))
    quote = event.data.get("feedback") or event.data.get("note") if event.type in QUOTES else None
    return Entry(
        id=event.id,
        at=event.created_at,
        type=event.type,
        text=words(who(event.actor), stage, event.data),
        quote=quote,
        has_text=bool(event.data.get("partial_text")),
        tone="bad" if event.type in FAILURES else TONES.get(event.type, "plain"),
    )


def who(actor: str) -> str:
    """Return an actor's name as a person says it."""
    kind, _, name = actor.partition(":")
    if kind == "key" and name:
        return name
    if kind == "cli":
        return f"{name or 'Somebody'} at the command line"
    if actor in WORKERS:
        return "A worker"
    return {"local": "Somebody at this machine", "admin": "An admin"}.get(actor, actor)


def _of_unknown(type: str) -> Words:
    named = type.replace(".", " ").replace("_", " ").capitalize()
    return lambda who, stage, data: f"{named}: {stage}" if stage else named


def _created(who: str, stage: str, data: Mapping[str, Any]) -> str:
    created = "forked the run from another" if data.get("forked_from") else "created the run"
    return f"{who} {created}{_budget(data)}"


def _started(who: str, stage: str, data: Mapping[str, Any]) -> str:
    attempt, provider = data.get("attempt", 1), data.get("provider")
    again = f", attempt {attempt}" if attempt != 1 else ""
    return f"A worker began {stage}{again}" + (f" with {provider}" if provider else "")


def _retried_later(who: str, stage: str, data: Mapping[str, Any]) -> str:
    again = f"it is tried again after {duration(data.get('delay_seconds', 0))}"
    return f"{stage} failed: {_reason(data)}; {again}"


def _completed(who: str, stage: str, data: Mapping[str, Any]) -> str:
    if data.get("taken_over"):
        return f"{stage} was taken over from the original run"
    passed = ", and passed without a review" if data.get("auto_approved") else ""
    return f"{stage} is done{_version(data)}{passed}{_cut(data)}"


def _drafted(who: str, stage: str, data: Mapping[str, Any]) -> str:
    return f"The draft of {stage}{_version(data)} waits for a review{_cut(data)}"


def _approved(who: str, stage: str, data: Mapping[str, Any]) -> str:
    return f"{who} approved {stage}{' with an edit' if data.get('edited') else ''}{_version(data)}"


def _changes(who: str, stage: str, data: Mapping[str, Any]) -> str:
    return f"{who} requested changes to {stage}{_version(data)}"


def _budget(data: Mapping[str, Any]) -> str:
    tokens, money = data.get("budget_tokens"), data.get("budget_money")
    parts = [f"{tokens:,} tokens"] if isinstance(tokens, int) else []
    parts += [f"{money} in money"] if money else []
    return f", with a budget of {' and '.join(parts)}" if parts else ""


def _version(data: Mapping[str, Any]) -> str:
    return f", version {data['version']}" if data.get("version") else ""


def _cut(data: Mapping[str, Any]) -> str:
    return "; the text breaks off, since the model reached its budget" if data.get("truncated") else ""


def _reason(data: Mapping[str, Any]) -> str:
    return str(data.get("message") or data.get("code") or "no reason is known")


WORDS: Mapping[str, Words] = {
    "run.created": _created,
    "run.started": lambda who, stage, data: "Work began",
    "run.completed": lambda who, stage, data: "The run is complete",
    "run.failed": lambda who, stage, data: f"The run failed: {_reason(data)}",
    "run.canceled": lambda who, stage, data: f"{who} canceled the run",
    "run.retried": lambda who, stage, data: f"{who} retried the run{_budget(data)}",
    "stage.queued": lambda who, stage, data: f"{stage} joined the queue",
    "stage.started": _started,
    "stage.completed": _completed,
    "stage.retry_scheduled": _retried_later,
    "stage.failed": lambda who, stage, data: f"{stage} failed: {_reason(data)}",
    "stage.rescued": lambda who, stage, data: f"The worker of {stage} stopped responding; it is in the queue again",
    "stage.released": lambda who, stage, data: f"A worker shut down and put {stage} back into the queue",
    "approval.requested": _drafted,
    "approval.granted": _approved,
    "changes.requested": _changes,
}
TONES: Mapping[str, Tone] = {
    "run.completed": "good",
    "stage.completed": "good",
    "approval.granted": "person",
    "changes.requested": "person",
    "approval.requested": "person",
    "run.canceled": "person",
    "run.retried": "person",
}
QUOTES = frozenset({"approval.granted", "changes.requested"})
