"""Renders the messages for the model from a stage's templates and the data of its run."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import date
from typing import Any

from vm_webapp.errors import RenderError
from vm_webapp.llm.base import Assignment
from vm_webapp.workflows.model import StageSpec, Workflow
from vm_webapp.workflows.quoting import without_tags
from vm_webapp.workflows.rendering import render_source
from vm_webapp.workflows.templates import BLANK_BRAND, BLANK_PROJECT, filled


@dataclass(frozen=True, slots=True)
class EarlierArtifact:
    """An artifact that an earlier stage of the run produced.

    Attributes:
        truncated: the model reached its budget, so ``content`` breaks off.
    """

    stage_key: str
    title: str
    content: str
    truncated: bool = False


@dataclass(frozen=True, slots=True)
class Remark:
    """What a reviewer said of a draft: a request for changes, or the note of an approval."""

    stage_key: str
    title: str
    text: str


@dataclass(frozen=True, slots=True)
class StageContext:
    """The data of a run when a stage begins.

    Attributes:
        request: the text of the request.
        brand: the brand's fields, or None.
        project: the project's fields, or None.
        earlier: the newest artifact of each earlier stage, in the order of the stages.
        feedback: the changes that a reviewer requested, or None.
        draft: the text to which ``feedback`` refers, or None.
        draft_truncated: the model reached its budget, so the draft breaks off.
        remarks: what reviewers said of earlier stages and of earlier drafts of this one, oldest first.
        today: the date on which the stage runs, None where it is not known.
    """

    request: str
    brand: Mapping[str, Any] | None = None
    project: Mapping[str, Any] | None = None
    earlier: tuple[EarlierArtifact, ...] = ()
    feedback: str | None = None
    draft: str | None = None
    remarks: tuple[Remark, ...] = ()
    today: date | None = None
    draft_truncated: bool = False


def render_assignment(workflow: Workflow, stage: StageSpec, context: StageContext) -> Assignment:
    """Render a stage's messages.

    A stage that needs a model gets the workflow's context block below its prompt: request, brand, project, earlier
    artifacts, draft and feedback, outline. One that needs none gets its prompt alone, which becomes the artifact.

    Args:
        workflow: as loaded, or as restored from a run's snapshot.
        stage: one of its stages.
        context: the data of the run.

    Returns:
        What a provider needs to write the artifact.

    Raises:
        RenderError: a template failed on these values, or took too much time or memory, although it was accepted when
            it was loaded.
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
        brand=filled(BLANK_BRAND, context.brand),
        project=filled(BLANK_PROJECT, context.project),
        sections=stage.sections,
        feedback=context.feedback,
        earlier=tuple((artifact.stage_key, artifact.title) for artifact in context.earlier),
    )


def template_variables(workflow: Workflow, stage: StageSpec, context: StageContext) -> dict[str, Any]:
    """Return every variable that a template may use.

    For a model, what people and earlier stages wrote cannot open or close a tag of the context block. A stage that
    needs none gets it as it is: no model reads the page.
    """
    quoted: Callable[[Any], Any] = without_tags if stage.needs_model else lambda value: value
    earlier = tuple(replace(artifact, content=quoted(artifact.content)) for artifact in context.earlier)
    return {
        "request": quoted(context.request),
        "brand": quoted(filled(BLANK_BRAND, context.brand)),
        "project": quoted(filled(BLANK_PROJECT, context.project)),
        "artifacts": {artifact.stage_key: artifact.content for artifact in earlier},
        "earlier": earlier,
        "feedback": quoted(context.feedback),
        "draft": quoted(context.draft),
        "draft_truncated": context.draft_truncated,
        "remarks": tuple(replace(remark, text=quoted(remark.text)) for remark in context.remarks),
        "today": context.today.isoformat() if context.today else None,
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
        return render_source(source, variables)
    except Exception as error:  # an expression in a template may raise anything
        raise RenderError(f"the {what} could not be rendered: {error}") from error
