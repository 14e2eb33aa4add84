"""Who presented a secret is remembered for a few seconds, and no longer than the secret is valid."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest

from api.auth import credential_cache
from api.auth.credential_cache import CACHE_SECONDS, CredentialCache
from api.http.threads import Threads
from vm_webapp.access.actor import Actor

ANN = Actor("key:ann")


@dataclass(frozen=True)
class Found:
    """What a lookup has found."""

    actor: Actor
    seconds_left: float | None


class Lookups(CredentialCache):
    """A cache over one secret, which counts the lookups."""

    def __init__(self, threads: Threads) -> None:
        super().__init__(threads)
        self.found: Found | None = Found(ANN, None)
        self.times = 0

    def _could_be(self, secret: str) -> bool:
        return secret.startswith("s")

    def _find(self, secret: str) -> Found | None:
        self.times += 1
        return self.found


class Clock:
    """The monotonic clock of the cache."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        """Return the time."""
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(credential_cache, "time", made)
    return made


@pytest.fixture
async def lookups() -> AsyncIterator[Lookups]:
    threads = Threads(1, 8, "tests", limit_seconds=10)
    yield Lookups(threads)
    threads.close()


async def test_a_lookup_is_remembered_for_less_than_five_seconds(lookups: Lookups, clock: Clock) -> None:
    assert CACHE_SECONDS < 5
    for _ in range(3):
        assert await lookups.actor_with("s") == ANN
    assert lookups.times == 1
    lookups.found = None
    clock.now += CACHE_SECONDS
    assert await lookups.actor_with("s") is None


async def test_it_is_remembered_no_longer_than_the_secret_is_valid(lookups: Lookups, clock: Clock) -> None:
    lookups.found = Found(ANN, 0.5)
    assert await lookups.actor_with("s") == ANN
    lookups.found = None
    clock.now += 0.49
    assert await lookups.actor_with("s") == ANN
    clock.now += 0.01
    assert await lookups.actor_with("s") is None


async def test_what_cannot_be_a_secret_is_not_looked_up(lookups: Lookups) -> None:
    assert await lookups.actor_with("x") is None
    assert lookups.times == 0


async def test_forgetting_looks_everything_up_again(lookups: Lookups, clock: Clock) -> None:
    assert await lookups.actor_with("s") == ANN
    lookups.found = None
    lookups.forget_all()
    assert await lookups.actor_with("s") is None
