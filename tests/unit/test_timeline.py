"""The timeline in plain words."""

from __future__ import annotations

from typing import Any

import pytest

from api.ui.durations import duration
from api.ui.timeline import entry_of, who
from tests.unit.run_history import event

TITLES = {"plan": "90-day plan"}


@pytest.mark.parametrize(
    ("type", "data", "words"),
    [
        ("run.created", {"workflow": "plan_90d"}, "ann created the run"),
        ("run.created", {"forked_from": "01a2"}, "ann forked the run from another"),
        ("run.canceled", {}, "ann canceled the run"),
        ("run.failed", {"code": "worker_lost", "message": "it died"}, "The run failed: it died"),
        ("stage.queued", {}, "90-day plan joined the queue"),
        ("stage.started", {"attempt": 1, "provider": None}, "A worker began 90-day plan"),
        ("stage.started", {"attempt": 2, "provider": "kimi"}, "A worker began 90-day plan, attempt 2 with kimi"),
        (
            "stage.retry_scheduled",
            {"message": "overloaded", "delay_seconds": 2.25},
            "90-day plan failed: overloaded; it is tried again after 2.2 s",
        ),
        ("stage.completed", {"version": 2, "truncated": False}, "90-day plan is done, version 2"),
        ("stage.completed", {"version": 1, "taken_over": True}, "90-day plan was taken over from the original run"),
        (
            "stage.completed",
            {"version": 1, "auto_approved": True},
            "90-day plan is done, version 1, and passed without a review",
        ),
        (
            "approval.requested",
            {"version": 1, "truncated": True},
            "The draft of 90-day plan, version 1 waits for a review;"
            " the text breaks off, since the model reached its budget",
        ),
        ("approval.granted", {"version": 2, "edited": True}, "ann approved 90-day plan with an edit, version 2"),
        ("changes.requested", {"version": 1, "feedback": "warmer"}, "ann requested changes to 90-day plan, version 1"),
        ("stage.checked_twice", {}, "Stage checked twice: 90-day plan"),
    ],
)
def test_an_event_is_told_in_words(type: str, data: dict[str, Any], words: str) -> None:
    assert entry_of(event(1, 0, type, "plan", "key:ann", **data), TITLES).text == words


def test_what_a_person_said_is_quoted_and_nothing_else() -> None:
    assert entry_of(event(1, 0, "changes.requested", "plan", feedback="warmer"), TITLES).quote == "warmer"
    assert entry_of(event(1, 0, "approval.granted", "plan", note="good"), TITLES).quote == "good"
    # The note of a stage is of how it was written, and stands with the document.
    assert entry_of(event(1, 0, "stage.completed", "plan", note="the prompt was cut"), TITLES).quote is None


@pytest.mark.parametrize(
    ("actor", "name"),
    [
        ("key:ann", "ann"),
        ("cli:bob", "bob at the command line"),
        ("cli", "Somebody at the command line"),
        ("local", "Somebody at this machine"),
        ("rescue", "A worker"),
        ("admin", "An admin"),
        ("key:", "key:"),
    ],
)
def test_an_actor_is_named_as_people_do(actor: str, name: str) -> None:
    assert who(actor) == name


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (-1, "0 s"),
        (0, "0 s"),
        (0.44, "0.4 s"),
        (9.94, "9.9 s"),
        (9.96, "10 s"),
        (59.6, "1 min"),
        (250, "4 min 10 s"),
        (3600, "1 h"),
        (3660, "1 h 1 min"),
        (3601, "1 h"),
        (273_700, "3 d 4 h"),
    ],
)
def test_a_duration_has_two_units_at_most(seconds: float, words: str) -> None:
    assert duration(seconds) == words
