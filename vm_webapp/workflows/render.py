"""From a stage and what its run knows to the messages for a model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from vm_webapp.errors import RenderError
from vm_webapp.llm.base import Assignment
from vm_webapp.workflows.model import StageSpec, Workflow
from vm_webapp.workflows.templates import BLANK_BRAND, BLANK_PROJECT, compiled, filled


@dataclass(frozen=True, slots=True)
class EarlierArtifact:
    """A document that an earlier stage of the run produced."""

    stage_key: str
    title: str
    content: str


@dataclass(frozen=True, slots=True)
class StageContext:
    """What a run knows when a stage begins.

    Attributes:
        request: what the person asked for.
        brand: the brand's fields, or None.
        project: the project's fields, or None.
        earlier: the newest document of each earlier stage, in the order of the stages.
        feedback: what a reviewer asked to change, or None.
        draft: the text that ``feedback`` is about, or None.
    """

    request: str
    brand: Mapping[str, Any] | None = None
    project: Mapping[str, Any] | None = None
    earlier: tuple[EarlierArtifact, ...] = ()
    feedback: str | None = None
    draft: str | None = None


def render_assignment(workflow: Workflow, stage: StageSpec, context: StageContext) -> Assignment:
    """Render a stage's messages.

    A stage that needs a model gets the workflow's context block below its prompt: request, brand, project, earlier
    documents, draft and feedback, outline. One that needs none gets its prompt alone, which is the document.

    Args:
        workflow: as loaded, or as restored from a run's snapshot.
        stage: one of its stages.
        context: what the run knows.

    Returns:
        What a provider needs to write the document.

    Raises:
        RenderError: a template failed on these values although it was accepted when it was loaded.
    """
    variables = template_variables(workflow, stage, context)
    return Assignment(
        system=_rendered("system message", workflow.system, variables),
        user=_user_message(workflow, stage, variables),
        max_tokens=stage.max_tokens,
        workflow_title=workflow.title,
        stage_key=stage.key,
        stage_title=stage.title,
        request=context.request,
        brand=variables["brand"],
        project=variables["project"],
        sections=stage.sections,
        feedback=context.feedback,
        earlier=tuple((document.stage_key, document.title) for document in context.earlier),
    )


def template_variables(workflow: Workflow, stage: StageSpec, context: StageContext) -> dict[str, Any]:
    """Return every variable that a template may use."""
    return {
        "request": context.request,
        "brand": filled(BLANK_BRAND, context.brand),
        "project": filled(BLANK_PROJECT, context.project),
        "artifacts": {document.stage_key: document.content for document in context.earlier},
        "earlier": context.earlier,
        "feedback": context.feedback,
        "draft": context.draft,
        "workflow": workflow.title,
        "stage": {"key": stage.key, "title": stage.title},
        "sections": stage.sections,
    }


def _user_message(workflow: Workflow, stage: StageSpec, variables: Mapping[str, Any]) -> str:
    prompt = _rendered(f"prompt of {stage.key}", stage.prompt, variables)
    if not stage.needs_model:
        return prompt
    return f"{prompt.rstrip()}\n\n{_rendered('context block', workflow.context, variables)}"


def _rendered(what: str, source: str, variables: Mapping[str, Any]) -> str:
    try:
        return compiled(source).render(variables)
    except Exception as error:  # an expression in a template may raise anything
        raise RenderError(f"the {what} could not be rendered: {error}") from error
