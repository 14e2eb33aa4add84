"""Models of workflows."""

from __future__ import annotations

from api.operations.models import Input, Output
from api.operations.pages import PageOut


class WorkflowPath(Input):
    """A workflow."""

    name: str


class WorkflowStageOut(Output):
    """A stage of a workflow."""

    key: str
    title: str
    requires_approval: bool
    needs_model: bool


class WorkflowOut(Output):
    """A workflow that can be run."""

    name: str
    title: str
    description: str
    stages: list[WorkflowStageOut]


class WorkflowsOut(PageOut[WorkflowOut]):
    """Every workflow; ``problems`` names the files that could not be loaded."""

    problems: list[str]
