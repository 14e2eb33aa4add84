"""Builds a statement that contains the rules of ``admission``, which are SQL text."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache, wraps
from typing import ParamSpec

from vm_webapp.db.prepared import Prepared
from vm_webapp.runs import admission

Which = ParamSpec("Which")


def made_of_rules(build: Callable[Which, str]) -> Callable[Which, Prepared]:
    """Build a statement once for each set of rules: its text is several kilobytes, and a worker polls often."""
    # The rules are the key of the cache although ``build`` reads them itself: tests replace RULES.

    @lru_cache(maxsize=16)
    def built(rules: tuple[object, ...], *arguments: Which.args, **options: Which.kwargs) -> Prepared:
        return Prepared(build(*arguments, **options))

    @wraps(build)
    def statement(*arguments: Which.args, **options: Which.kwargs) -> Prepared:
        return built(admission.RULES, *arguments, **options)  # type: ignore[arg-type]

    return statement
