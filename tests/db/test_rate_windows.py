"""Counters in PostgreSQL: what they give within a window is exact, whoever counts at the same time."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest

from tests.support.fleet import change
from tests.support.runs import read
from vm_webapp.access.addresses import counted_address
from vm_webapp.access.rate_windows import purge_old_windows, seconds_until_admitted, take

pytestmark = pytest.mark.usefixtures("database")

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


def later(seconds: float) -> datetime:
    """Return the time so many seconds after noon."""
    return NOON + timedelta(seconds=seconds)


def attempt(address: str, *, at: datetime = NOON) -> float | None:
    """Make an attempt, of which three an address and five in all are admitted."""
    return seconds_until_admitted(f"attempt {address}", limit=3, all_of="attempts", limit_of_all=5, at=at)


def test_portions_are_granted_up_to_the_limit_and_then_none() -> None:
    assert [take("ann", 40, limit=100, at=NOON).granted for _ in range(4)] == [40, 40, 20, 0]
    assert take("bob", 40, limit=100, at=NOON).granted == 40


def test_what_others_may_still_take_and_when_the_window_ends_comes_with_a_portion() -> None:
    take("ann", 40, limit=100, at=NOON)
    taken = take("ann", 40, limit=100, at=later(20))
    assert (taken.left, taken.began_at, taken.seconds_left) == (20, NOON, 40.0)


def test_a_window_begins_with_the_first_portion_after_the_one_before() -> None:
    take("ann", 100, limit=100, at=NOON)
    assert take("ann", 10, limit=100, at=later(59.9)).granted == 0
    anew = take("ann", 10, limit=100, at=later(75))
    assert (anew.granted, anew.began_at, anew.seconds_left) == (10, later(75), 60.0)


def test_a_statement_that_waited_for_another_does_not_begin_a_window_anew() -> None:
    take("ann", 60, limit=100, at=NOON)
    assert take("ann", 60, limit=100, at=later(-0.1)).granted == 40


def test_a_clock_that_is_set_back_by_hours_begins_a_window_anew() -> None:
    take("ann", 100, limit=100, at=NOON)
    assert take("ann", 10, limit=100, at=later(-7200)).granted == 10


def test_many_at_once_get_the_limit_together_and_not_one_more() -> None:
    with ThreadPoolExecutor(12) as threads:
        taken = list(threads.map(lambda _: take("ann", 7, limit=100).granted, range(40)))
    assert sum(taken) == 100


def test_the_database_has_one_row_for_each_counter_and_drops_those_that_are_old() -> None:
    take("ann", 1, limit=100)
    take("ann", 1, limit=100)
    take("bob", 1, limit=100)
    change("UPDATE rate_windows SET began_at = now() - interval '61 minutes' WHERE counted = 'bob'")
    assert purge_old_windows() == 1
    assert [each["counted"] for each in read("SELECT counted FROM rate_windows")] == ["ann"]


def test_attempts_are_counted_exactly_for_each_address() -> None:
    assert [attempt("192.0.2.1", at=later(second)) for second in (0, 10, 20, 30)] == [None, None, None, 30.0]
    assert attempt("192.0.2.2") is None
    assert attempt("192.0.2.1", at=later(60)) is None


def test_attempts_of_all_addresses_are_limited_and_then_no_further_address_is_stored() -> None:
    assert [attempt(f"192.0.2.{n}", at=later(n)) for n in range(7)] == [None] * 5 + [55.0, 54.0]
    (stored,) = read("SELECT count(*) AS n FROM rate_windows WHERE counted LIKE 'attempt %%'")
    assert stored["n"] == 5


def test_an_address_over_its_limit_does_not_use_up_that_of_all() -> None:
    for _ in range(20):
        attempt("192.0.2.1")
    assert attempt("192.0.2.2") is None
    assert attempt("192.0.2.3") is None
    assert attempt("192.0.2.4") == 60.0


def test_many_attempts_at_once_are_admitted_up_to_the_limit_and_not_one_more() -> None:
    def try_to_sign_in(number: int) -> bool:
        address = f"attempt 192.0.2.{number % 8}"
        return seconds_until_admitted(address, limit=5, all_of="attempts", limit_of_all=30) is None

    with ThreadPoolExecutor(12) as threads:
        admitted = list(threads.map(try_to_sign_in, range(80)))
    assert sum(admitted) == 30


@pytest.mark.parametrize(
    ("address", "counted"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2::9", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("", "unknown"),
        ("a-host", "unknown"),
    ],
)
def test_whoever_has_a_64_is_one_address(address: str, counted: str) -> None:
    assert counted_address(address) == counted
