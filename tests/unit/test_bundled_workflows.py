"""The workflows that come with the product, and the example of ``docs/workflows.md``."""

from __future__ import annotations

import json
import re
import time
from pathlib import Path

import pytest

from tests.unit.workflow_files import MINIMAL, write_workflow
from vm_webapp.llm.worksheet import FIRST_LINE, write_worksheet
from vm_webapp.workflows.loader import load_catalog, load_workflow
from vm_webapp.workflows.model import StageSpec, Workflow
from vm_webapp.workflows.render import EarlierArtifact, StageContext, render_assignment
from vm_webapp.workflows.rendering import BUNDLED

CATALOG = load_catalog()
STAGES = [(workflow, stage) for workflow in CATALOG.workflows.values() for stage in workflow.stages]
MODEL_STAGES = [(workflow, stage) for workflow, stage in STAGES if stage.needs_model]
DOCS = Path(__file__).parents[2] / "docs" / "workflows.md"


def _id(value: Workflow | StageSpec) -> str:
    return value.name if isinstance(value, Workflow) else value.key


@pytest.mark.parametrize("name", CATALOG.workflows)
def test_every_template_is_sound(name: str) -> None:
    # A process that starts relies on it, and checks only the templates of people.
    assert load_workflow(BUNDLED / name) == CATALOG.get(name)


@pytest.mark.parametrize(
    ("name", "stages"),
    [
        ("foundation", "research brand_voice* positioning* keywords* brief"),
        ("plan_90d", "research strategy* plan"),
        ("content_calendar", "topic_map calendar"),
        ("landing_page", "message* copy variants"),
        ("email_sequence", "arc* emails"),
        ("smoke", "check"),
    ],
)
def test_stages_and_reviews_are_as_published(name: str, stages: str) -> None:
    found = " ".join(f"{stage.key}{'*' * stage.requires_approval}" for stage in CATALOG.get(name).stages)
    assert found == stages


def test_only_the_smoke_test_works_without_a_model() -> None:
    assert {workflow.name for workflow, stage in STAGES if not stage.needs_model} == {"smoke"}


def test_the_smoke_test_renders_at_once() -> None:
    smoke = CATALOG.get("smoke")
    began = time.process_time()
    text = render_assignment(smoke, smoke.stages[0], StageContext("Is anybody there?")).user
    assert time.process_time() - began < 0.5
    assert "No model was called." in text
    assert "Request: Is anybody there?" in text


def test_every_file_of_a_bundled_folder_is_used() -> None:
    for name, workflow in CATALOG.workflows.items():
        expected = {"workflow.yaml", *(f"{stage.key}.md" for stage in workflow.stages)}
        assert {path.name for path in (BUNDLED / name).iterdir()} == expected


@pytest.mark.parametrize("workflow", CATALOG.workflows.values(), ids=_id)
def test_a_snapshot_survives_json_and_renders_the_same(workflow: Workflow) -> None:
    restored = Workflow.from_snapshot(json.loads(json.dumps(workflow.snapshot())))
    assert restored == workflow
    stage, context = workflow.stages[0], StageContext("A bakery on wheels", {"name": "Crumb"})
    assert render_assignment(restored, restored.stages[0], context) == render_assignment(workflow, stage, context)


def test_a_snapshot_is_made_once() -> None:
    workflow = CATALOG.get("plan_90d")
    assert workflow.snapshot() is workflow.snapshot()


def test_a_snapshot_holds_the_texts_themselves(tmp_path: Path) -> None:
    folder = write_workflow(tmp_path)
    snapshot = json.dumps(load_workflow(folder).snapshot())
    (folder / "release.md").write_text("Something else")
    (folder / "workflow.yaml").write_text(MINIMAL.replace("Press release", "Renamed"))
    workflow = Workflow.from_snapshot(json.loads(snapshot))
    assert (workflow.title, workflow.stages[0].prompt) == ("Press release", "Write the release.\n")


@pytest.mark.parametrize(("workflow", "stage"), MODEL_STAGES, ids=_id)
def test_a_stage_has_an_outline_that_its_prompt_and_worksheet_follow(workflow: Workflow, stage: StageSpec) -> None:
    assert len(stage.sections) >= 3
    assignment = render_assignment(workflow, stage, StageContext("A bakery on wheels"))
    worksheet = write_worksheet(assignment)
    assert worksheet.startswith(FIRST_LINE)
    for section in stage.sections:
        assert section.heading in assignment.user
        assert f"## {section.heading}" in worksheet


@pytest.mark.parametrize(("workflow", "stage"), MODEL_STAGES, ids=_id)
def test_a_prompt_leaves_tokens_for_the_completion_and_repeats_no_material(
    workflow: Workflow, stage: StageSpec
) -> None:
    position = workflow.stages.index(stage)
    earlier = tuple(EarlierArtifact(item.key, item.title, f"text of {item.key}") for item in workflow.stages[:position])
    user = render_assignment(workflow, stage, StageContext("A bakery on wheels", earlier=earlier)).user
    assert user.count("A bakery on wheels") == 1
    for artifact in earlier:
        assert user.count(artifact.content) == 1
    assert stage.max_tokens >= 16_000
    assert len(stage.prompt) < 2_000


def test_the_documented_example_loads(tmp_path: Path) -> None:
    example = re.search(r"```yaml\n(.*?)```", DOCS.read_text(), re.DOTALL)
    assert example is not None
    workflow = load_workflow(write_workflow(tmp_path, yaml=example.group(1)))
    assert [stage.key for stage in workflow.stages] == ["release", "recipients"]
    assert workflow.stages[0].sections[0].questions == ("What happened, and why does it matter now?",)
    assert workflow.stages[0].timeout_seconds == workflow.stages[1].timeout_seconds == 300
    assert workflow.stages[0].max_tokens == workflow.stages[1].max_tokens
