"""Finds the first error of a template: in its syntax tree, then by rendering samples."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Set
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from jinja2 import Template, TemplateSyntaxError, meta, nodes

from vm_webapp.workflows.environment import compiled, environment

OTHER_FILES = (nodes.Include, nodes.Import, nodes.FromImport, nodes.Extends)


@dataclass(frozen=True, slots=True)
class Names:
    """What a template may name.

    Attributes:
        variables: the variables.
        fields: the fields of those variables whose fields are known.
    """

    variables: frozenset[str]
    fields: tuple[tuple[str, frozenset[str]], ...]


class Fault(Exception):
    """A template has an error.

    Args:
        line: the template's line.
        what: what is wrong.
    """

    def __init__(self, line: int, what: str) -> None:
        super().__init__(line, what)
        self.line, self.what = line, what


def find_fault(source: str, names: Names, samples: Iterable[Mapping[str, Any]]) -> None:
    """Raise the first error of a template.

    Args:
        source: the template's text.
        names: what it may name.
        samples: values of its variables.

    Raises:
        Fault: a name, field, filter or test does not exist, even in a branch that is never taken; or rendering one of
            the samples fails.
        MemoryError: rendering one of them takes more memory than there is.
    """
    template = _compiled_if_sound(source, names)
    for variables in samples:
        try:
            template.render(variables)
        except MemoryError:
            raise
        except Exception as error:  # an expression in a template may raise anything
            raise Fault(template_line(error), str(error) or type(error).__name__) from None


def template_line(error: BaseException) -> int:
    """Return the line of the template on which rendering failed."""
    # Jinja maps the frames of compiled templates to a file of this name. The innermost one counts.
    line, entry = 1, error.__traceback__
    while entry is not None:
        if entry.tb_frame.f_code.co_filename == "<template>":
            line = entry.tb_lineno or line  # None at instructions without a line, where a signal may raise
        entry = entry.tb_next
    return line


@lru_cache(maxsize=512)  # most stages share the system message and the context block of their workflow
def _compiled_if_sound(source: str, names: Names) -> Template:
    try:
        first = min(_errors(environment.parse(source), names), default=None)
        if first is not None:
            raise Fault(*first)
        return compiled(source)
    except TemplateSyntaxError as error:  # parsing, analysing and compiling each find errors of their own
        raise Fault(error.lineno, error.message or "this is not a template") from None
    except (RecursionError, SyntaxError):  # from Jinja's parser, or from Python's for the code that Jinja generates
        raise Fault(1, "the template is nested too deeply") from None


def _errors(tree: nodes.Template, names: Names) -> Iterator[tuple[int, str]]:
    missing = list(_missing_filters_and_tests(tree))
    yield from missing
    for node in tree.find_all(OTHER_FILES):
        yield node.lineno, "a prompt cannot take in other files"
    if not missing:  # Jinja cannot analyse names where a filter does not exist
        yield from _unknown_variables(tree, names.variables)
    yield from _unknown_fields(tree, dict(names.fields))


def _missing_filters_and_tests(tree: nodes.Template) -> Iterator[tuple[int, str]]:
    for node in tree.find_all(nodes.Filter):
        if node.name not in environment.filters:
            yield node.lineno, f"there is no filter {node.name}"
    for test in tree.find_all(nodes.Test):
        if test.name not in environment.tests:
            yield test.lineno, f"there is no test {test.name}"


def _unknown_variables(tree: nodes.Template, variables: Set[str]) -> Iterator[tuple[int, str]]:
    unknown = meta.find_undeclared_variables(tree) - variables - environment.globals.keys()
    for name in tree.find_all(nodes.Name):
        if name.ctx == "load" and name.name in unknown:
            yield name.lineno, f"there is no variable {name.name}"


def _unknown_fields(tree: nodes.Template, known: Mapping[str, Set[str]]) -> Iterator[tuple[int, str]]:
    for line, owner, field in _fields(tree):
        if field not in known.get(owner, {field}):
            note = "; it is not an earlier stage" if owner == "artifacts" else ""
            yield line, f"there is no {owner}.{field}{note}"


def _fields(tree: nodes.Template) -> Iterator[tuple[int, str, str]]:
    for dotted in tree.find_all(nodes.Getattr):
        if isinstance(dotted.node, nodes.Name):
            yield dotted.lineno, dotted.node.name, dotted.attr
    for indexed in tree.find_all(nodes.Getitem):
        if isinstance(indexed.node, nodes.Name) and isinstance(indexed.arg, nodes.Const):
            yield indexed.lineno, indexed.node.name, str(indexed.arg.value)
