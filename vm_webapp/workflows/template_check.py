"""Checks a template before any run uses it, with the names and the sample values of its stage."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import date
from itertools import product

from vm_webapp.context.fields import BRAND_FIELDS, PROJECT_FIELDS, samples
from vm_webapp.workflows.faults import Fault, Names
from vm_webapp.workflows.model import StageSpec, Workflow
from vm_webapp.workflows.render import EarlierArtifact, Remark, StageContext, template_variables
from vm_webapp.workflows.rendering import check_source
from vm_webapp.workflows.sources import broken
from vm_webapp.workflows.templates import BLANK_BRAND, BLANK_PROJECT, VARIABLES

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
            rendering fails, or takes too much time or memory, with or without a brand, a project and feedback.
    """
    earlier = workflow.stages[: workflow.stages.index(stage)]
    variables = [template_variables(workflow, stage, context) for context in _samples(earlier, stage)]
    try:
        check_source(source, _names(earlier), variables)
    except Fault as fault:
        raise broken(where, fault.line, fault.what) from None


def _names(earlier: Iterable[StageSpec]) -> Names:
    fields = {
        "brand": BLANK_BRAND.keys(),
        "project": BLANK_PROJECT.keys(),
        "artifacts": {item.key for item in earlier},
        "stage": {"key", "title"},
    }
    return Names(VARIABLES, tuple((owner, frozenset(known)) for owner, known in fields.items()))


def _samples(earlier: Iterable[StageSpec], stage: StageSpec) -> Iterator[StageContext]:
    artifacts = tuple(EarlierArtifact(stage.key, stage.title, "text") for stage in earlier)
    # Without a brand, with one whose fields are all blank, and with one whose fields are all filled; so for projects.
    for brand, project, text in product((None, {}, SAMPLE_BRAND), (None, {}, SAMPLE_PROJECT), (None, "text")):
        remarks = tuple(Remark(item.key, item.title, "text") for item in (*earlier, stage)) if text else ()
        today = date(2026, 1, 5) if text else None
        yield StageContext("text", brand, project, artifacts, feedback=text, draft=text, remarks=remarks, today=today)
