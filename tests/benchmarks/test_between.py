"""The pauses between the calls of a run."""

from __future__ import annotations

import pytest

from benchmarks.between import pauses


def test_only_pauses_within_a_run_count() -> None:
    # Two runs of three calls, with 50 s between them.
    first = [(0.0, 1.0), (1.001, 2.0), (2.005, 3.0)]
    second = [(53.0, 54.0), (54.003, 55.0), (55.002, 56.0)]
    assert pauses([*first, *second]) == pytest.approx([1, 2, 3, 5])
