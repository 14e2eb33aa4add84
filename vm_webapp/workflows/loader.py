"""Loads workflow folders (``<name>/workflow.yaml`` and prompts). A broken one is reported in one line; others load."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Set
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from vm_webapp.errors import InvalidInput, WorkflowFileError
from vm_webapp.llm.base import Section
from vm_webapp.workflows.model import RetryPolicy, StageSpec, Workflow
from vm_webapp.workflows.rendering import BUNDLED, close_renderer
from vm_webapp.workflows.schema import NAME_PATTERN, StageFile, WorkflowFile, parse_workflow_file
from vm_webapp.workflows.sources import (
    YamlSource,
    broken,
    lies_within,
    one_line,
    read_text,
    read_yaml,
    why_unreadable,
)
from vm_webapp.workflows.template_check import check_template

WORKFLOWS_PATH = "VM_WORKFLOWS_PATH"
FILE_NAME = "workflow.yaml"


@dataclass(frozen=True, slots=True)
class Catalog:
    """The workflows that can be run.

    Attributes:
        workflows: by name, in alphabetical order.
        problems: one line for each folder that could not be loaded: file, line, what is wrong.
    """

    workflows: Mapping[str, Workflow]
    problems: tuple[str, ...]

    @property
    def titles(self) -> Mapping[str, str]:
        """The workflows' titles, by name."""
        return {name: workflow.title for name, workflow in self.workflows.items()}

    def get(self, name: str) -> Workflow:
        """Return a workflow by its name.

        Raises:
            InvalidInput: there is none, and the text lists the known names; or it is broken, and the text says why.
        """
        if (workflow := self.workflows.get(name)) is not None:
            return workflow
        for problem in self.problems:
            if problem.startswith((f"{name}/", f"{name}.y")):
                raise InvalidInput(f"the workflow {name!r} cannot be run: {problem}", pointer="/workflow")
        unread = "".join(f"; {problem}" for problem in self.problems if problem.startswith(WORKFLOWS_PATH))
        known = ", ".join(self.workflows)
        raise InvalidInput(f"there is no workflow {name!r}; known: {known}{unread}", pointer="/workflow")


def load_catalog(extra: Path | None = None) -> Catalog:
    """Load the bundled workflows and those of a further folder.

    Args:
        extra: a folder of workflow folders, or None. Names of bundled workflows are refused.

    Returns:
        The workflows that could be loaded, and a line for each that could not.

    Raises:
        WorkflowFileError: a bundled workflow is broken: the installation is damaged.
    """
    workflows = dict(_bundled())
    problems: list[str] = []
    for path in _extra_entries(extra, problems):
        # One broken folder must not take the service down, nor hide the other workflows.
        try:
            if (workflow := _load_extra(path, workflows.keys())) is not None:
                workflows[workflow.name] = workflow
        except WorkflowFileError as error:
            problems.append(str(error))
    close_renderer()  # an API renders nothing more
    return Catalog(dict(sorted(workflows.items())), tuple(problems))


def load_workflow(folder: Path) -> Workflow:
    """Load one folder.

    Args:
        folder: holds ``workflow.yaml`` and the prompts; its name is the workflow's.

    Raises:
        WorkflowFileError: the folder has a mistake; the text is ``folder/file:line: what``.
    """
    where = f"{folder.name}/{FILE_NAME}"
    if not re.fullmatch(NAME_PATTERN, folder.name):
        raise broken(where, 1, f"the folder's name must match {NAME_PATTERN}")
    workflow, parsed = _read_workflow(folder, where)
    _check_templates(workflow, parsed)
    return workflow


def _read_workflow(folder: Path, where: str) -> tuple[Workflow, WorkflowFile]:
    source = read_yaml(_inside(folder, FILE_NAME, where, 1), where)
    parsed = parse_workflow_file(source)
    return _build(folder, parsed, source), parsed


@cache
def _bundled() -> Mapping[str, Workflow]:
    """Return the bundled workflows, whose files do not change while a process lives."""
    # Their templates are checked by the tests, and not by each process: that took a tenth of an API's start.
    folders = [path for path in _entries(BUNDLED) if path.is_dir()]
    return {path.name: _read_workflow(path, f"{path.name}/{FILE_NAME}")[0] for path in folders}


def _entries(root: Path) -> list[Path]:
    # Hidden folders: Kubernetes mounts a ConfigMap as links into one. Double underscores: __pycache__.
    return sorted(path for path in root.iterdir() if not path.name.startswith((".", "__")))


def _extra_entries(root: Path | None, problems: list[str]) -> Iterator[Path]:
    if root is None:
        return
    try:
        yield from _entries(root)
    except OSError as error:
        problems.append(one_line(f"{WORKFLOWS_PATH}: {root}: {error.strerror}"))


def _load_extra(path: Path, taken: Set[str]) -> Workflow | None:
    where = f"{path.name}/{FILE_NAME}"
    if os.path.isfile(path):  # unlike Path.is_file, False where permission is denied
        if path.suffix in {".yaml", ".yml"}:
            raise broken(path.name, 1, f"a workflow is a folder; move this file to {path.stem}/{FILE_NAME}")
        return None
    if not lies_within(path, path.parent):
        raise broken(where, 1, "the folder is a link to a place outside VM_WORKFLOWS_PATH")
    # A workflow that replaced a bundled one would silently change what existing clients run.
    if path.name in taken:
        raise broken(where, 1, f"{path.name} is the name of a bundled workflow; choose another")
    return load_workflow(path)


def _build(folder: Path, parsed: WorkflowFile, source: YamlSource) -> Workflow:
    return Workflow(
        name=folder.name,
        title=parsed.title,
        description=parsed.description,
        system=_template(folder, parsed.system, source, ("system",)) if parsed.system else _shared("system.md"),
        context=_shared("context.md"),
        stages=tuple(_stage(folder, stage, source, number) for number, stage in enumerate(parsed.stages)),
        retry=RetryPolicy(**parsed.retry.model_dump()),
    )


def _stage(folder: Path, stage: StageFile, source: YamlSource, number: int) -> StageSpec:
    return StageSpec(
        key=stage.key,
        title=stage.title,
        prompt=_template(folder, stage.prompt_file, source, ("stages", number, "prompt")),
        requires_approval=stage.requires_approval,
        needs_model=stage.needs_model,
        timeout_seconds=stage.timeout_seconds,
        max_tokens=stage.max_tokens,
        artifact_name=stage.artifact_name or f"{stage.key}.md",
        sections=tuple(Section(section.heading, tuple(section.questions)) for section in stage.sections),
    )


def _shared(name: str) -> str:
    return read_text(BUNDLED / name, name)


def _template(folder: Path, name: str, source: YamlSource, path: tuple[int | str, ...]) -> str:
    where = f"{folder.name}/{name}"
    text = read_text(_inside(folder, name, source.where, source.line(path)), where)
    if not text.strip():
        raise broken(where, 1, "the file is empty")
    return text


def _inside(folder: Path, name: str, where: str, line: int) -> Path:
    path = folder / name
    # A prompt goes to the model's provider: a link must not send any other file of the machine there.
    if not lies_within(path, folder):
        raise broken(where, line, f"{name} lies outside the workflow's folder")
    if (reason := why_unreadable(path)) is not None:
        raise broken(where, line, f"the file {name} {reason}")
    return path


def _check_templates(workflow: Workflow, parsed: WorkflowFile) -> None:
    for stage, described in zip(workflow.stages, parsed.stages, strict=True):
        check_template(stage.prompt, f"{workflow.name}/{described.prompt_file}", workflow, stage)
    # The first stage has the fewest earlier artifacts: a system message that renders there renders in every stage.
    system_file = f"{workflow.name}/{parsed.system}" if parsed.system else "system.md"
    check_template(workflow.system, system_file, workflow, workflow.stages[0])
    check_template(workflow.context, "context.md", workflow, workflow.stages[-1])
