"""The list of problem types has every type that the code can respond with, and no other."""

from __future__ import annotations

import ast
import importlib
import pkgutil
from collections.abc import Iterator
from http import HTTPStatus
from pathlib import Path

import api
from api.http.problem_types import PROBLEM_TYPES
from api.http.problems import KNOWN
from vm_webapp.errors import VMError

# Errors of this status, which is the default, become internal_error: their messages are for the log.
INTERNAL = 500


def modules() -> list[Path]:
    """Return the files of the package ``api``, all of which are imported."""
    found = []
    for each in pkgutil.walk_packages(api.__path__, "api."):
        module = importlib.import_module(each.name)
        assert module.__file__
        found.append(Path(module.__file__))
    return found


def literals() -> Iterator[tuple[int | None, str]]:
    """Yield status and name of the problems that are raised or returned with both written out."""
    for path in modules():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Call):
                continue
            called = node.func.id if isinstance(node.func, ast.Name) else getattr(node.func, "attr", "")
            at = {"RequestError": 0, "problem": 1, "Refusal": 1}.get(called)
            if at is None or len(node.args) <= at + 1:
                continue
            status, name = node.args[at], node.args[at + 1]
            if isinstance(name, ast.Constant) and isinstance(name.value, str):
                known = status.value if isinstance(status, ast.Constant) else None
                yield known if isinstance(known, int) else None, name.value


def raised() -> Iterator[tuple[int, str]]:
    """Yield status and name of the core's errors that an API process knows and that keep their status."""
    waiting = [VMError]
    while waiting:
        each = waiting.pop()
        waiting += each.__subclasses__()
        mine = each.__module__.startswith(("api.", "vm_webapp."))
        # The errors of a model's provider end on timelines, those of the client and the commands on a terminal.
        outside = ("vm_webapp.llm.", "vm_webapp.client.", "vm_webapp.cli.")
        if mine and not each.__module__.startswith(outside) and each.http_status != INTERNAL:
            yield each.http_status, each.code


def test_every_type_that_the_code_can_respond_with_is_listed() -> None:
    found = {*literals(), *raised(), *((status, name) for status, (name, _) in KNOWN.items())}
    assert len(found) > 20
    names = {name for _, name in found} | {"http_error"}
    assert names - PROBLEM_TYPES.keys() == set(), "not in api/http/problem_types.py"
    assert PROBLEM_TYPES.keys() - names == set(), "no code responds with these"
    for status, name in found:
        assert status in (None, PROBLEM_TYPES[name].status), name


def test_every_type_says_what_it_means_and_what_to_do() -> None:
    for each in PROBLEM_TYPES.values():
        assert each.meaning.endswith(".")
        assert each.remedy.endswith(".")
        assert each.status is None or HTTPStatus(each.status)
