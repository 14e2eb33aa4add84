"""The short form of the suite, and what only the long one (``--full``) adds."""

from __future__ import annotations

from typing import Any

import pytest
from _pytest.mark import ParameterSet


def only_in_full(*values: Any, id: str | None = None) -> ParameterSet:
    """Return a case that runs only with ``--full``: it takes seconds, and other cases of its family stand for it."""
    return pytest.param(*values, id=id, marks=pytest.mark.only_in_full)
