"""The worst lag of event loops: none is lost when it could not be published."""

from __future__ import annotations

import asyncio
import time

import pytest

from vm_webapp import loop_lag
from vm_webapp.loop_lag import LoopLag

CHECK_SECONDS = 0.02


@pytest.fixture(autouse=True)
def _checked_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop_lag, "CHECK_SECONDS", CHECK_SECONDS)


async def blocked(lag: LoopLag, seconds: float) -> None:
    lag.watch(asyncio.get_running_loop())
    time.sleep(CHECK_SECONDS + seconds)
    await asyncio.sleep(0)
    await asyncio.sleep(0)


async def test_a_lag_is_told_until_it_is_published() -> None:
    lag = LoopLag()
    await blocked(lag, 0.1)
    worst = lag.take()
    assert worst >= 0.1
    assert lag.take() == worst  # it could not be published
    lag.published()
    assert lag.take() < 0.05


async def test_a_worse_lag_between_taking_and_publishing_is_told_next() -> None:
    lag = LoopLag()
    lag.take()
    await blocked(lag, 0.1)
    lag.published()
    assert lag.take() >= 0.1
