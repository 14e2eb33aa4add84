"""The breaker opens after a failure, half opens after a while, and reports each change once."""

from __future__ import annotations

from vm_webapp.circuit_breaker import CircuitBreaker


def test_it_opens_after_a_failure_and_is_half_open_when_the_time_is_over() -> None:
    now = [100.0]
    breaker = CircuitBreaker(2.0, lambda: now[0])
    assert (breaker.is_open, breaker.is_half_open) == (False, False)
    assert breaker.record_failure()
    assert (breaker.is_open, breaker.is_half_open) == (True, False)
    now[0] += 1.9
    assert breaker.is_open
    now[0] += 0.1
    assert (breaker.is_open, breaker.is_half_open) == (False, True)


def test_a_failure_while_half_open_opens_it_again_and_is_not_reported() -> None:
    now = [100.0]
    breaker = CircuitBreaker(2.0, lambda: now[0])
    breaker.record_failure()
    now[0] += 2.0
    assert not breaker.record_failure()
    assert breaker.is_open


def test_a_success_closes_it_and_is_reported_only_after_a_failure() -> None:
    breaker = CircuitBreaker(2.0)
    assert not breaker.record_success()
    breaker.record_failure()
    assert breaker.record_success()
    assert (breaker.is_open, breaker.is_half_open) == (False, False)
    assert breaker.record_failure()
