"""The schema of ``workflow.yaml``, with every default."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from vm_webapp.workflows.sources import YamlSource, broken

NAME_PATTERN = r"^[a-z][a-z0-9_]{0,63}$"
MAX_STAGES = 30


def _one_line(text: str) -> str:
    if len(text.splitlines()) > 1:
        raise ValueError("must be one line")
    return text


Text = Annotated[str, Field(min_length=1, pattern=r"\S")]
Line = Annotated[Text, Field(max_length=200), AfterValidator(_one_line)]
Seconds = Annotated[float, Field(gt=0, le=3600)]


class _Strict(BaseModel):
    # strict: without it ``requires_approval: 1`` would count as true, and a number as text.
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class SectionFile(_Strict):
    """A heading of the artifact and the questions that a good section answers."""

    heading: Line
    questions: list[Text] = []


class StageFile(_Strict):
    """A stage. ``prompt`` is a file in the folder, by default ``<key>.md``."""

    key: str = Field(pattern=NAME_PATTERN)
    title: Line
    prompt: Text | None = None
    requires_approval: bool = False
    needs_model: bool = True
    timeout_seconds: Seconds = 300
    max_tokens: int = Field(default=16_000, ge=256, le=200_000)
    artifact_name: str | None = Field(default=None, pattern=r"^[A-Za-z0-9_-]{1,64}\.(md|txt)$")
    sections: list[SectionFile] = []

    @property
    def prompt_file(self) -> str:
        """The prompt's path within the folder."""
        return self.prompt or f"{self.key}.md"


class RetryFile(_Strict):
    """When failed attempts are retried: by default after 2, 4, 8 and 16 s, which outlasts a short outage."""

    max_failures: int = Field(default=5, ge=1, le=50)
    base_seconds: Seconds = 2
    max_seconds: Seconds = 120


class WorkflowFile(_Strict):
    """A workflow. ``system`` is a file in the folder; without it, all workflows share one system message."""

    title: Line
    description: Text
    system: Text | None = None
    retry: RetryFile = RetryFile()
    stages: list[StageFile] = Field(min_length=1, max_length=MAX_STAGES)


def parse_workflow_file(source: YamlSource) -> WorkflowFile:
    """Validate the content of a ``workflow.yaml``.

    Raises:
        WorkflowFileError: the content is not valid; the text names the line of the first mistake.
    """
    try:
        parsed = WorkflowFile.model_validate(source.data)
    except ValidationError as error:
        complaints = [(source.line(item["loc"]), _complaint(item["type"], item)) for item in error.errors()]
        # pydantic reports in the order of the fields; the person reads the file from the top.
        raise broken(source.where, *min(complaints)) from None
    _refuse_repeated_keys(parsed, source)
    return parsed


def _complaint(kind: str, item: Any) -> str:
    path = ".".join(str(part) for part in item["loc"])
    match kind:
        case "missing":
            return f"{path} is missing"
        case "extra_forbidden":
            return f"{path} is not a key that workflow files have"
        case "value_error":
            return f"{path} {item['ctx']['error']}"
        case _:
            return f"{path}: {item['msg']}"


def _refuse_repeated_keys(parsed: WorkflowFile, source: YamlSource) -> None:
    seen: set[str] = set()
    for number, stage in enumerate(parsed.stages):
        if stage.key in seen:
            raise broken(source.where, source.line(("stages", number, "key")), f"the stage {stage.key} appears twice")
        seen.add(stage.key)
