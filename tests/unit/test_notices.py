"""What every page says is out of order."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from api.ui.frame import NO_WORKER, WORKERS_STAND_STILL, notices_of
from vm_webapp.ops.health import Health, check_timed_out
from vm_webapp.runs.pauses import NO_PAUSES, Pause, Pauses

MOMENT = datetime(2026, 11, 26, tzinfo=UTC)
FINE: dict[str, dict[str, Any]] = {"worker": {"status": "ok", "alive": 1}, "llm": {"status": "ok"}}


def health(**changed: dict[str, Any]) -> Health:
    """Return a verdict that differs from a good one in these dependencies."""
    return Health(FINE | changed, ())


def test_nothing_is_said_where_all_is_well_or_nothing_is_known() -> None:
    assert notices_of(NO_PAUSES, health()) == ()
    assert notices_of(NO_PAUSES, None) == ()
    assert notices_of(NO_PAUSES, check_timed_out()) == ()


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"worker": {"status": "down", "alive": 0}}, NO_WORKER),
        ({"worker": {"status": "down", "alive": 2}}, WORKERS_STAND_STILL),
        ({"llm": {"status": "offline"}}, "Offline: no model is called"),
        ({"llm": {"status": "not_configured"}}, "No model is configured"),
    ],
)
def test_what_holds_work_up_or_writes_no_real_text_is_said(changed: dict[str, Any], said: str) -> None:
    (notice,) = notices_of(NO_PAUSES, health(**changed))
    assert notice.startswith(said)


def test_a_pause_says_who_why_and_what_ends_it() -> None:
    pauses = Pauses(
        Pause(MOMENT, by="key:ann", reason="we move house"),
        {"kimi": Pause(MOMENT, until=MOMENT, code="llm_overloaded"), "other": Pause(MOMENT)},
    )
    assert notices_of(pauses, health()) == (
        "The queue was paused by key:ann (we move house). Runs wait until an operator resumes it.",
        "The model's provider kimi is paused (llm_overloaded). It is tried again by itself.",
        "The model's provider other is paused. Runs wait until an operator resumes it.",
    )
