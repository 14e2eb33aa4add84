"""Models of a run's timeline, and the types of its events."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Any
from uuid import UUID

from pydantic import Field, WithJsonSchema

from api.http.values import Moment, Whole
from api.operations.models import Input, Output


@dataclass(frozen=True, slots=True)
class EventType:
    """A type of event.

    Attributes:
        meaning: what has happened.
        data: the fields of the event's ``data``; a name that ends with ``?`` is not always there.
    """

    meaning: str
    data: dict[str, str] = field(default_factory=dict)


FAILURE = {
    "code": "a stable identifier of the cause",
    "message": "what happened",
    "retryable": "whether another try may succeed",
}
BROKEN_OFF = {
    "partial_text?": "what the model had written before the call failed",
    "partial_text_cut?": "whether that is only its beginning",
}
VERSION = {"version": "the number of the artifact's version", "sha256": "its digest"}

EVENT_TYPES: dict[str, EventType] = {
    "run.created": EventType(
        "The run was created.",
        {"workflow": "its workflow", "forked_from?": "the run that it was made from"},
    ),
    "run.started": EventType("A worker has begun with the run's first stage."),
    "run.completed": EventType("Every stage is completed."),
    "run.failed": EventType("A stage has failed, and the run with it.", FAILURE | {"stage": "the stage that failed"}),
    "run.canceled": EventType("Somebody has canceled the run."),
    "run.retried": EventType(
        "Somebody has put the failed run back to work.", {"from_stage": "the stage with which it goes on"}
    ),
    "stage.queued": EventType("The stage waits for a worker."),
    "stage.started": EventType(
        "A worker has begun an attempt.",
        {"attempt": "the attempt's number", "provider": "the provider that it calls; null if it calls no model"},
    ),
    "stage.completed": EventType(
        "The stage has its artifact.",
        VERSION
        | {
            "truncated?": "whether the text breaks off, because the model reached its budget",
            "note?": "what a reader should know of how it was written",
            "auto_approved?": "true if its review was passed because the run asked for that",
            "edited?": "whether a person has edited the draft before accepting it",
            "taken_over?": "true if a fork has taken the artifact over from its parent",
            "remarks?": "what reviewers had said about an artifact that was taken over",
        },
    ),
    "stage.retry_scheduled": EventType(
        "An attempt has failed, and another will follow.",
        FAILURE
        | {
            "attempt": "the number of the attempt that failed",
            "retry_at": "when the next one may begin",
            "delay_seconds": "how long that is from now",
            "counted": "whether the failure uses up the stage's budget of retries",
        }
        | BROKEN_OFF,
    ),
    "stage.failed": EventType("The stage has failed for good.", FAILURE | BROKEN_OFF),
    "stage.rescued": EventType(
        "The stage's worker was lost; another will take it.",
        {"attempt": "the number of the attempt that was lost", "rescues": "how often that has happened to this stage"},
    ),
    "stage.released": EventType(
        "The stage's worker is shutting down and has put it back.", {"attempt": "the number of the attempt"}
    ),
    "approval.requested": EventType(
        "A draft waits for a person.",
        VERSION
        | {
            "truncated": "whether the text breaks off, because the model reached its budget",
            "note?": "what a reader should know of how it was written",
        },
    ),
    "approval.granted": EventType(
        "A person has accepted the draft.",
        VERSION | {"edited": "whether the person has edited it", "note?": "the person's remark"},
    ),
    "changes.requested": EventType(
        "A person has sent the draft back.",
        {"version": "the number of the version that was read", "feedback": "what should change"},
    ),
}

# Sent on streams alone, and stored nowhere.
STAGE_PROGRESS = EventType(
    "A further piece of the text that the model is writing.",
    {
        "stage": "the stage's key",
        "attempt": "the attempt's number; each attempt starts at offset 0",
        "offset": "how many characters came before this piece",
        "text": "the piece",
    },
)


def _described(each: EventType) -> str:
    fields = ", ".join(f"`{name}` ({meaning})" for name, meaning in each.data.items())
    return each.meaning + (f" Its `data`: {fields}." if fields else " Its `data` is empty.")


_KNOWN = "\n".join(f"- `{name}`: {_described(each)}" for name, each in EVENT_TYPES.items())
# Open, because types may be added, which is no incompatible change.
TYPE_SCHEMA = {
    "description": f"What has happened. Types may be added: ignore those that you do not know.\n\n{_KNOWN}",
    "anyOf": [{"type": "string", "enum": list(EVENT_TYPES)}, {"type": "string"}],
}
STREAM = {
    "type": "string",
    "description": "Server-sent events. Each has as `id` the event's id, as `event` its type and as `data` the event as"
    " JSON, as in a page. The stream begins with the events after `Last-Event-ID` or `after`, and ends after the run's"
    " last event. `stage.progress` has no `id`, and is no event of the timeline: " + _described(STAGE_PROGRESS),
    "examples": [
        'id: 17\nevent: run.started\ndata: {"id":17,"run_id":"01a20c66-c2a9-70b2-9d9f-0558575aa31b",'
        '"stage":null,"type":"run.started","actor":"worker","data":{},"created_at":"2026-11-25T08:30:00.000000Z"}\n\n'
    ],
}


class EventsQuery(Input):
    """Which events: those with ids above ``after``."""

    # PostgreSQL's bigint; a larger number would be an error of the database.
    after: Whole = Field(default=0, ge=0, lt=2**63, description="the next_cursor of the page before")
    limit: Whole = Field(default=50, ge=1, le=200)


class EventOut(Output):
    """An event of a timeline."""

    id: int
    run_id: UUID
    stage: str | None
    type: Annotated[str, WithJsonSchema(TYPE_SCHEMA)]
    actor: str
    data: dict[str, Any]
    created_at: Moment
