"""The scaler against a platform that obeys, refuses, lies, hangs and comes back: no wrong number, and no storm."""

from __future__ import annotations

import pytest

from tests.ops.scaling import ObedientPlatform, Stand, decide, lose_lease, outcomes
from tests.support.runs import read
from vm_webapp.errors import DatabaseUnavailable
from vm_webapp.ops.autoscale import scaler as module
from vm_webapp.ops.autoscale.platform import PlatformError
from vm_webapp.ops.autoscale.shapes import Limits

pytestmark = pytest.mark.usefixtures("database")


def test_a_decision_is_carried_out_once_and_recorded() -> None:
    stand = Stand()
    decide(4)
    stand.turns(5)
    assert (stand.platform.numbers, stand.platform.instances) == ([4], 4)
    assert read("SELECT service, was, wanted, outcome, detail FROM scale_calls") == [
        {"service": "srv-1", "was": 1, "wanted": 4, "outcome": "scaled", "detail": "much work"}
    ]
    (lease,) = read("SELECT details FROM duty_leases")
    assert lease["details"] == {"service": "srv-1", "min": 1, "max": 10, "target_wait_seconds": 30}


def test_its_own_limits_hold_whatever_was_decided() -> None:
    stand = Stand()
    decide(500)
    stand.turns()
    assert stand.platform.numbers == [10]


def test_a_stale_decision_changes_nothing_and_is_said_once(caplog: pytest.LogCaptureFixture) -> None:
    stand = Stand()
    for _ in range(40):
        decide(4, age=31)
        stand.turns()
    assert stand.platform.numbers == []
    assert [each.message for each in caplog.records] == ["autoscale.stands_still"]


def test_of_two_only_the_holder_of_the_lease_scales(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    one, two = Stand("one"), Stand("two")
    one.turns()
    decide(4)
    two.turns(3)
    assert two.platform.numbers == []
    assert [each.message for each in caplog.records] == ["autoscale.stands_by"]
    one.turns()
    assert one.platform.numbers == [4]


def test_who_takes_over_reads_the_number_first() -> None:
    platform = ObedientPlatform()
    one, two = Stand("one", platform), Stand("two", platform)
    decide(4)
    one.turns()
    lose_lease()
    platform.instances = 7  # one has set it in its last moment
    two.turns()
    assert (platform.numbers, platform.instances) == ([4, 4], 4)
    assert read("SELECT was FROM scale_calls ORDER BY id DESC LIMIT 1") == [{"was": 7}]


def test_a_frozen_one_that_wakes_sets_nothing() -> None:
    platform = ObedientPlatform()
    frozen, other = Stand("frozen", platform), Stand("other", platform)
    decide(2)
    frozen.turns()
    lose_lease()
    decide(6)
    other.turns()
    frozen.clock.now += 60
    decide(3)
    frozen.turns(3)
    assert platform.numbers == [2, 6]


def test_a_call_is_begun_only_with_more_than_three_seconds_of_the_lease(monkeypatch: pytest.MonkeyPatch) -> None:
    stand = Stand()
    decide(4)
    stand.turns(every=0)
    decide(5)
    given: list[float] = []

    def scale(instances: int, *, until: float) -> None:
        stand.platform.instances = instances
        given.append(until)

    monkeypatch.setattr(stand.platform, "scale", scale)
    stand.clock.now += 2
    stand.turns(every=0)
    (until,) = given
    assert until - stand.clock.now == pytest.approx(5)  # of the eight that are left, less the three of the call
    monkeypatch.setattr(module, "RENEW_BELOW_SECONDS", 0)
    decide(6)
    stand.clock.now += 5.5
    stand.turns(every=0)
    assert (len(given), outcomes()) == (1, ["scaled", "scaled", "failed"])


def test_one_that_is_frozen_between_the_reading_and_the_call_sets_nothing() -> None:
    platform = ObedientPlatform()
    frozen, other = Stand("frozen", platform), Stand("other", platform)
    decide(2)

    def freeze() -> None:
        platform.before_reading = lambda: None
        lose_lease()
        decide(6)
        other.turns()

    platform.before_reading = freeze
    frozen.turns()
    assert platform.numbers == [6]


def test_a_platform_that_follows_late_is_given_time() -> None:
    stand = Stand()
    decide(4)
    stand.platform.lag = 1
    stand.turns()
    stand.platform.lag = 2
    stand.turns(4)
    assert (stand.platform.numbers, outcomes()) == ([4], ["scaled"])


def test_a_platform_that_keeps_another_number_is_told_again_but_not_at_once(caplog: pytest.LogCaptureFixture) -> None:
    stand = Stand()
    decide(4)
    stand.platform.follows = False
    for _ in range(60):
        decide(4)
        stand.turns()
    assert set(outcomes()) == {"differs"}
    assert 2 <= len(stand.platform.numbers) <= 6
    assert [each.message for each in caplog.records].count("autoscale.stands_still") == 1


def test_its_own_autoscaling_is_refused_and_said_once(caplog: pytest.LogCaptureFixture) -> None:
    stand = Stand()
    stand.platform.scales_itself = True
    for _ in range(100):
        decide(4)
        stand.turns()
    assert (stand.platform.numbers, outcomes()) == ([], ["refused"])
    assert [each.message for each in caplog.records].count("autoscale.stands_still") == 1
    stand.platform.scales_itself = False
    decide(4)
    stand.turns(40)
    assert stand.platform.numbers[:1] == [4]


def test_six_calls_a_minute_are_the_most() -> None:
    stand = Stand()
    for number in range(30):
        decide(2 + number % 2)
        stand.turns()
    assert len(stand.platform.numbers) == 6
    decide(5)
    stand.turns(10)
    assert stand.platform.numbers[6:] == [5]


def test_the_calls_of_the_one_before_count_for_who_takes_over() -> None:
    platform = ObedientPlatform()
    one, two = Stand("one", platform), Stand("two", platform)
    for number in range(4):
        decide(2 + number % 2)
        one.turns()
    one.scaler.release()
    for number in range(10):
        decide(4 + number % 2)
        two.turns()
    assert len(platform.numbers) == 6


def test_they_count_too_after_failures_and_while_the_database_is_away(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> list[float]:
        raise DatabaseUnavailable("down")

    dead = Stand("dead")
    for number in (3, 4, 3, 4, 3, 4):
        decide(number)
        dead.turns(every=1.0)
    dead.platform.problem = PlatformError("away")
    dead.turns(70)
    assert outcomes() == ["scaled"] * 6 + ["failed"] * 5
    lose_lease()
    platform = ObedientPlatform()
    heir = Stand("heir", platform)
    with monkeypatch.context() as away:
        away.setattr(module, "read_ages", fail)
        with pytest.raises(DatabaseUnavailable):
            heir.turns()
    heir.turns(25)
    assert platform.numbers == [], "within the minute"
    heir.turns(10)
    assert platform.numbers == [4]


def test_the_platform_keeps_one_at_least() -> None:
    stand = Stand(limits=Limits(0, 10, 30))
    stand.platform.instances = 2
    decide(0)
    stand.turns(4)
    assert stand.platform.numbers == [1]


def test_a_dry_run_tells_each_number_once_and_sets_none() -> None:
    stand = Stand(dry_run=True)
    decide(4)
    stand.turns(4)
    decide(5)
    stand.turns(4)
    assert (stand.platform.numbers, outcomes()) == ([], ["dry_run", "dry_run"])


def test_another_may_scale_at_once_after_a_release() -> None:
    one, two = Stand("one"), Stand("two")
    one.turns()
    one.scaler.release()
    decide(4)
    two.turns()
    assert two.platform.numbers == [4]


def test_a_trial_keeps_nobody_from_scaling() -> None:
    trial, real = Stand("trial", dry_run=True), Stand("real")
    decide(4)
    trial.turns()
    real.turns()
    assert (trial.platform.numbers, real.platform.numbers) == ([], [4])
