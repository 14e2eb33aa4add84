"""The garbage collector rests during a start, and works afterwards."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest

from vm_webapp.cli.collector import pause_collector, resume_collector


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    yield
    gc.enable()


def test_what_there_is_after_a_start_is_not_looked_through_again() -> None:
    pause_collector()
    assert not gc.isenabled()
    kept = [object() for _ in range(3)]
    resume_collector()
    assert gc.isenabled()
    assert not any(each is kept for each in gc.get_objects())
    later: list[object] = []
    assert any(each is later for each in gc.get_objects())
