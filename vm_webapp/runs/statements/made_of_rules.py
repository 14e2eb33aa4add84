"""Builds a statement that contains the rules of ``admission``, which are SQL text."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache, wraps

from vm_webapp.db.prepared import Prepared
from vm_webapp.runs import admission


def made_of_rules(build: Callable[[], str]) -> Callable[[], Prepared]:
    """Build a statement once for each set of rules: its text is several kilobytes, and a worker polls often."""
    # The rules are the key of the cache although ``build`` reads them itself: tests replace RULES.

    @lru_cache(maxsize=4)
    def built(rules: tuple[admission.Rule, ...]) -> Prepared:
        return Prepared(build())

    @wraps(build)
    def statement() -> Prepared:
        return built(admission.RULES)

    return statement
