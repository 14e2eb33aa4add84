"""Templates use only filters that exist: Jinja looks up one in a branch no sooner than the branch is taken."""

from __future__ import annotations

import pytest
from jinja2 import Environment, nodes

from api.docs import rendering as docs
from api.ui import rendering as ui


@pytest.mark.parametrize("environment", [ui._ENVIRONMENT, docs._ENVIRONMENT], ids=["ui", "docs"])
def test_every_filter_exists(environment: Environment) -> None:
    assert environment.loader is not None
    unknown = {
        (name, each.name)
        for name in environment.list_templates()
        for each in environment.parse(environment.loader.get_source(environment, name)[0]).find_all(nodes.Filter)
        if each.name not in environment.filters
    }
    assert unknown == set()
