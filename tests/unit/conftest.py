"""Fewer examples of each property in the usual form of the suite."""

from __future__ import annotations

import pytest
from hypothesis import settings


def pytest_configure(config: pytest.Config) -> None:
    """Try 40 examples of a property, unless a test says another number; with ``--full``, as many as Hypothesis does."""
    if not config.getoption("--full"):
        settings.register_profile("usual", max_examples=40)
        settings.load_profile("usual")
