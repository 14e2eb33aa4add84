"""Keys that are not valid are counted for each address, for a bounded number of addresses."""

from __future__ import annotations

import pytest

from api.auth import failed_attempts
from api.auth.failed_attempts import MOST_FAILURES, FailedAttempts
from api.http.problems import RequestError


def fail(attempts: FailedAttempts, times: int, address: str = "192.0.2.1") -> None:
    """Present so many keys that are not valid."""
    for _ in range(times):
        attempts.refuse_if_too_many(address)
        attempts.note(address)


def test_an_address_is_refused_after_too_many_keys_until_the_minute_is_over() -> None:
    now = [100.0]
    attempts = FailedAttempts(lambda: now[0])
    fail(attempts, MOST_FAILURES)
    now[0] += 15
    with pytest.raises(RequestError) as refused:
        attempts.refuse_if_too_many("192.0.2.1")
    assert (refused.value.http_status, refused.value.headers) == (429, {"Retry-After": "45"})
    attempts.refuse_if_too_many("192.0.2.2")
    now[0] += 45
    fail(attempts, MOST_FAILURES)


def test_fewer_within_a_minute_are_never_refused() -> None:
    now = [0.0]
    attempts = FailedAttempts(lambda: now[0])
    for _ in range(5):
        fail(attempts, MOST_FAILURES - 1)
        now[0] += 60


def test_the_addresses_of_a_64_are_counted_together() -> None:
    attempts = FailedAttempts()
    for host in range(MOST_FAILURES):
        fail(attempts, 1, f"2001:db8::{host:x}")
    with pytest.raises(RequestError):
        attempts.refuse_if_too_many("2001:db8::ffff")
    attempts.refuse_if_too_many("2001:db8:0:1::1")


def test_only_so_many_addresses_are_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(failed_attempts, "MAX_ADDRESSES", 100)
    attempts = FailedAttempts()
    for host in range(300):
        fail(attempts, 1, f"198.51.{host // 256}.{host % 256}")
    assert len(attempts) == 100
