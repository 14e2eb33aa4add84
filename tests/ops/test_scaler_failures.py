"""The scaler where calls of the platform fail, hang or end unknown, and without the database."""

from __future__ import annotations

import threading
from contextlib import AbstractContextManager

import pytest

from tests.fakes.render import KEY, SERVICE, FakeRender
from tests.ops.scaling import Stand, decide, outcomes
from tests.support.runs import read
from tests.support.waiting import eventually
from vm_webapp.errors import DatabaseUnavailable
from vm_webapp.ops.autoscale import scaler as module
from vm_webapp.ops.autoscale.decisions import Signal, read_signal
from vm_webapp.ops.autoscale.platform import PlatformError
from vm_webapp.ops.autoscale.scaler import scaling
from vm_webapp.ops.autoscale.shapes import Limits
from vm_webapp.settings import Settings

pytestmark = pytest.mark.usefixtures("database")


def scaled_by(fake: FakeRender) -> AbstractContextManager[None]:
    """Scale in the background for a block, as a service does."""
    return scaling(Settings(render_api_key=KEY, render_api_url=fake.url), Limits(1, 10, 30), SERVICE)


def test_failures_back_off_and_end_with_the_right_number(caplog: pytest.LogCaptureFixture) -> None:
    stand = Stand()
    stand.platform.problem = PlatformError("Render responded with 503")
    for _ in range(300):
        decide(4)
        stand.turns()
    assert stand.platform.reads < 12
    assert read("SELECT DISTINCT was, wanted, outcome, detail FROM scale_calls") == [
        {"was": None, "wanted": 4, "outcome": "failed", "detail": "not asked for: Render responded with 503"}
    ]
    assert [each.message for each in caplog.records].count("autoscale.stands_still") == 1
    stand.platform.problem = None
    for _ in range(160):
        decide(4)
        stand.turns()
    assert (stand.platform.instances, outcomes()[-1:]) == (4, ["scaled"])


def test_a_call_whose_outcome_is_unknown_is_read_back_before_the_next() -> None:
    stand = Stand()
    decide(4)
    stand.turns()

    def set_and_break() -> None:
        stand.platform.instances = 6
        raise PlatformError("Render did not respond within 3 s")

    stand.platform.during = set_and_break
    decide(6)
    stand.turns()
    stand.platform.during = lambda: None
    stand.turns(6)
    assert (stand.platform.numbers, outcomes()) == ([4, 6], ["scaled", "failed"])


def test_it_waits_for_as_long_as_the_platform_says() -> None:
    stand = Stand()
    stand.platform.problem = PlatformError("Render was asked too often (429)", retry_after=40)
    decide(4)
    stand.turns()
    stand.platform.problem = None
    stand.turns(19)
    assert stand.platform.numbers == []
    decide(4)
    stand.turns(3)
    assert stand.platform.numbers == [4]


def test_without_the_database_nothing_is_set(monkeypatch: pytest.MonkeyPatch) -> None:
    stand = Stand()
    decide(4)

    def fail() -> None:
        raise DatabaseUnavailable("down")

    monkeypatch.setattr(module, "read_signal", fail)
    with pytest.raises(DatabaseUnavailable):
        stand.turns()
    assert stand.platform.numbers == []


def test_an_outage_of_the_database_is_said_once_and_ends_by_itself(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    turns: list[bool] = []

    def fail_at_first() -> Signal:
        turns.append(True)
        if len(turns) < 20:
            raise DatabaseUnavailable("down")
        return read_signal()

    monkeypatch.setattr(module, "read_signal", fail_at_first)
    monkeypatch.setattr(module, "SCALE_EVERY_SECONDS", 0.01)
    decide(4)
    with FakeRender() as fake, scaled_by(fake):
        eventually(lambda: outcomes() == ["scaled"], "the number is set")
    assert (fake.numbers, len(turns) >= 20) == ([4], True)
    assert [each.message for each in caplog.records] == ["autoscale.unscaled"]
    assert read("SELECT expires_at <= clock_timestamp() AS free FROM duty_leases") == [{"free": True}]


def test_the_lease_is_not_given_up_during_a_call(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "STOP_SECONDS", 0.0)
    decide(4)
    with FakeRender() as fake:
        fake.hangs_seconds = 0.5
        with scaled_by(fake):
            eventually(lambda: fake.reads, "a call")
        assert read("SELECT expires_at > clock_timestamp() AS held FROM duty_leases") == [{"held": True}]
        eventually(lambda: not [each for each in threading.enumerate() if each.name == "scale"], "the thread ends")


def test_one_that_stops_begins_no_further_call() -> None:
    stand = Stand()
    decide(4)
    stand.platform.during = stand.scaler.stop
    stand.turns(3)
    assert (stand.platform.reads, stand.platform.numbers, outcomes()) == (1, [4], ["failed"])


def test_a_stop_waits_for_one_slow_call_and_gives_the_lease_up() -> None:
    decide(4)
    with FakeRender() as fake:
        fake.hangs_seconds = 1.0
        with scaled_by(fake):
            eventually(lambda: fake.reads, "a call")
        assert (fake.reads, fake.numbers) == (1, [])
    assert read("SELECT expires_at <= clock_timestamp() AS free FROM duty_leases") == [{"free": True}]
