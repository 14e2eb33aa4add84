"""Finds errors in a template before any run uses it: first in its syntax tree, then by rendering sample values."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Set
from datetime import date
from functools import lru_cache
from itertools import product
from typing import Any

from jinja2 import Template, TemplateSyntaxError, meta, nodes

from vm_webapp.context.fields import BRAND_FIELDS, PROJECT_FIELDS, samples
from vm_webapp.workflows.model import StageSpec, Workflow
from vm_webapp.workflows.render import EarlierArtifact, Remark, StageContext, template_variables
from vm_webapp.workflows.sources import broken
from vm_webapp.workflows.templates import BLANK_BRAND, BLANK_PROJECT, VARIABLES, compiled, environment

OTHER_FILES = (nodes.Include, nodes.Import, nodes.FromImport, nodes.Extends)

SAMPLE_BRAND = samples(BRAND_FIELDS)
SAMPLE_PROJECT = samples(PROJECT_FIELDS)


def check_template(source: str, where: str, workflow: Workflow, stage: StageSpec) -> None:
    """Refuse a template that could fail in a run.

    Args:
        source: the template's text.
        where: its file's name in messages.
        workflow: the workflow it belongs to.
        stage: the stage it is rendered for; it can use only the artifacts of earlier stages.

    Raises:
        WorkflowFileError: a name, field, filter or test does not exist, even in a branch that is never taken; or
            rendering fails with or without a brand, a project and feedback.
    """
    earlier = workflow.stages[: workflow.stages.index(stage)]
    template = _compiled_if_sound(source, where, frozenset(item.key for item in earlier))
    for context in _samples(earlier, stage):
        _try_out(template, where, template_variables(workflow, stage, context))


@lru_cache(maxsize=512)  # most stages share the system message and the context block of their workflow
def _compiled_if_sound(source: str, where: str, earlier: Set[str]) -> Template:
    try:
        first = min(_errors(environment.parse(source), earlier), default=None)
        if first is not None:
            raise broken(where, *first)
        return compiled(source)
    except TemplateSyntaxError as error:  # parsing, analysing and compiling each find errors of their own
        raise broken(where, error.lineno, error.message or "this is not a template") from None
    except (RecursionError, SyntaxError):  # from Jinja's parser, or from Python's for the code that Jinja generates
        raise broken(where, 1, "the template is nested too deeply") from None


def _errors(tree: nodes.Template, earlier: Set[str]) -> Iterator[tuple[int, str]]:
    missing = list(_missing_filters_and_tests(tree))
    yield from missing
    for node in tree.find_all(OTHER_FILES):
        yield node.lineno, "a prompt cannot take in other files"
    if not missing:  # Jinja cannot analyse names where a filter does not exist
        yield from _unknown_variables(tree)
    yield from _unknown_fields(tree, earlier)


def _missing_filters_and_tests(tree: nodes.Template) -> Iterator[tuple[int, str]]:
    for node in tree.find_all(nodes.Filter):
        if node.name not in environment.filters:
            yield node.lineno, f"there is no filter {node.name}"
    for test in tree.find_all(nodes.Test):
        if test.name not in environment.tests:
            yield test.lineno, f"there is no test {test.name}"


def _unknown_variables(tree: nodes.Template) -> Iterator[tuple[int, str]]:
    unknown = meta.find_undeclared_variables(tree) - VARIABLES - environment.globals.keys()
    for name in tree.find_all(nodes.Name):
        if name.ctx == "load" and name.name in unknown:
            yield name.lineno, f"there is no variable {name.name}"


def _unknown_fields(tree: nodes.Template, earlier: Set[str]) -> Iterator[tuple[int, str]]:
    known: Mapping[str, Set[str]] = {
        "brand": BLANK_BRAND.keys(),
        "project": BLANK_PROJECT.keys(),
        "artifacts": earlier,
        "stage": {"key", "title"},
    }
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


def _samples(earlier: Iterable[StageSpec], stage: StageSpec) -> Iterator[StageContext]:
    artifacts = tuple(EarlierArtifact(stage.key, stage.title, "text") for stage in earlier)
    # Without a brand, with one whose fields are all blank, and with one whose fields are all filled; so for projects.
    for brand, project, text in product((None, {}, SAMPLE_BRAND), (None, {}, SAMPLE_PROJECT), (None, "text")):
        remarks = tuple(Remark(item.key, item.title, "text") for item in (*earlier, stage)) if text else ()
        today = date(2026, 1, 5) if text else None
        yield StageContext("text", brand, project, artifacts, feedback=text, draft=text, remarks=remarks, today=today)


def _try_out(template: Template, where: str, variables: Mapping[str, Any]) -> None:
    try:
        template.render(variables)
    except Exception as error:  # an expression in a template may raise anything
        raise broken(where, _template_line(error), str(error) or type(error).__name__) from None


def _template_line(error: BaseException) -> int:
    """Return the line of the template on which rendering failed."""
    # Jinja maps the frames of compiled templates to a file of this name. The innermost one counts.
    line, entry = 1, error.__traceback__
    while entry is not None:
        if entry.tb_frame.f_code.co_filename == "<template>":
            line = entry.tb_lineno
        entry = entry.tb_next
    return line
