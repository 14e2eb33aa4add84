"""The catalog: the bundled workflows, a user's own, and the errors of those that cannot be loaded."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from tests.unit.workflow_files import MINIMAL, write_workflow
from vm_webapp.errors import InvalidInput, NotFound, WorkflowFileError
from vm_webapp.workflows.loader import load_catalog, load_workflow

BUNDLED = {"foundation", "plan_90d", "content_calendar", "landing_page", "email_sequence", "smoke"}
NOBODY = 65_534


def test_without_a_folder_there_are_the_bundled_workflows_and_no_problems() -> None:
    catalog = load_catalog()
    assert set(catalog.workflows) == BUNDLED
    assert list(catalog.workflows) == sorted(BUNDLED)
    assert catalog.problems == ()


def test_a_folder_adds_to_the_bundled_workflows(tmp_path: Path) -> None:
    write_workflow(tmp_path)
    catalog = load_catalog(tmp_path)
    assert set(catalog.workflows) == BUNDLED | {"press"}
    assert [stage.key for stage in catalog.get("press").stages] == ["release", "recipients"]


def test_what_a_file_leaves_out_has_the_documented_defaults(tmp_path: Path) -> None:
    workflow = load_workflow(write_workflow(tmp_path))
    stage = workflow.stages[0]
    assert (stage.requires_approval, stage.needs_model) == (False, True)
    assert (stage.timeout_seconds, stage.max_tokens, stage.artifact_name) == (300, 16_000, "release.md")
    assert (workflow.retry.max_failures, workflow.retry.base_seconds, workflow.retry.max_seconds) == (5, 2, 120)


def test_a_workflow_may_bring_its_own_system_message(tmp_path: Path) -> None:
    folder = write_workflow(tmp_path, yaml=f"system: editor.md\n{MINIMAL}", prompts={"editor.md": "You edit."})
    assert load_workflow(folder).system == "You edit."


def test_a_byte_order_mark_and_windows_line_ends_are_read_away(tmp_path: Path) -> None:
    folder = write_workflow(
        tmp_path,
        yaml=b"\xef\xbb\xbf" + MINIMAL.replace("\n", "\r\n").encode(),
        prompts={"release.md": b"\xef\xbb\xbfone\r\ntwo\r\n"},
    )
    assert load_workflow(folder).stages[0].prompt == "one\ntwo\n"


def test_a_broken_workflow_is_one_line_and_the_others_load(tmp_path: Path) -> None:
    write_workflow(tmp_path, "broken", yaml="title: [")
    write_workflow(tmp_path, "sound")
    catalog = load_catalog(tmp_path)
    assert set(catalog.workflows) == BUNDLED | {"sound"}
    assert len(catalog.problems) == 1
    assert catalog.problems[0].startswith("broken/workflow.yaml:1: ")


def test_the_name_of_a_bundled_workflow_is_refused(tmp_path: Path) -> None:
    write_workflow(tmp_path, "smoke")
    catalog = load_catalog(tmp_path)
    assert catalog.problems == ("smoke/workflow.yaml:1: smoke is the name of a bundled workflow; choose another",)
    assert catalog.get("smoke").stages[0].key == "check"


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("Press", "Press"),
        ("9lives", "9lives"),
        ("a b", "a b"),
        ("a\nb", "a b"),
        ("x" * 65, "x" * 65),
        (os.fsdecode(b"\xff\xfe"), "\N{REPLACEMENT CHARACTER}" * 2),
    ],
)
def test_a_folder_that_cannot_be_a_name_is_refused_in_one_printable_line(tmp_path: Path, name: str, shown: str) -> None:
    with pytest.raises(WorkflowFileError) as refusal:
        load_workflow(write_workflow(tmp_path, name))
    problem = str(refusal.value)
    assert problem == f"{shown}/workflow.yaml:1: the folder's name must match ^[a-z][a-z0-9_]{{0,63}}$"
    assert problem.isprintable()


def test_the_error_of_a_workflow_file_outside_a_folder_names_its_place(tmp_path: Path) -> None:
    (tmp_path / "press.yaml").write_text(MINIMAL)
    (tmp_path / "notes.txt").write_text("not a workflow")
    (tmp_path / ".git").mkdir()
    expected = "press.yaml:1: a workflow is a folder; move this file to press/workflow.yaml"
    assert load_catalog(tmp_path).problems == (expected,)


def test_a_broken_workflow_is_refused_with_what_is_broken(tmp_path: Path) -> None:
    folder = write_workflow(tmp_path)
    (folder / "release.md").write_text("{{ brand.vocie }}")
    with pytest.raises(InvalidInput) as refused:
        load_catalog(tmp_path).get(folder.name)
    problem = f"{folder.name}/release.md:1: there is no brand.vocie"
    assert str(refused.value) == f"the workflow {folder.name!r} cannot be run: {problem}"
    with pytest.raises(InvalidInput, match=r"VM_WORKFLOWS_PATH: .*nowhere: No such file or directory"):
        load_catalog(tmp_path / "nowhere").get("press")


def test_a_folder_that_does_not_exist_is_a_problem_and_the_bundled_ones_load(tmp_path: Path) -> None:
    catalog = load_catalog(tmp_path / "nowhere")
    assert set(catalog.workflows) == BUNDLED
    assert catalog.problems == (f"VM_WORKFLOWS_PATH: {tmp_path / 'nowhere'}: No such file or directory",)


def test_a_file_in_place_of_the_folder_is_a_problem(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("")
    assert load_catalog(file).problems == (f"VM_WORKFLOWS_PATH: {file}: Not a directory",)


def test_a_folder_without_a_workflow_file_says_so(tmp_path: Path) -> None:
    folder = tmp_path / "press"
    folder.mkdir()
    with pytest.raises(WorkflowFileError, match=r"^press/workflow\.yaml:1: the file workflow\.yaml is missing$"):
        load_workflow(folder)


def test_a_folder_that_links_elsewhere_is_refused(tmp_path: Path) -> None:
    root = tmp_path / "workflows"
    root.mkdir()
    (root / "press").symlink_to(write_workflow(tmp_path, "elsewhere"))
    expected = "press/workflow.yaml:1: the folder is a link to a place outside VM_WORKFLOWS_PATH"
    assert load_catalog(root).problems == (expected,)


def test_a_link_within_the_folder_is_followed(tmp_path: Path) -> None:
    # This is how Kubernetes mounts a ConfigMap: visible names link into a hidden folder.
    hidden = tmp_path / "..data"
    hidden.mkdir()
    write_workflow(hidden)
    (tmp_path / "press").symlink_to(hidden / "press")
    catalog = load_catalog(tmp_path)
    assert catalog.problems == ()
    assert "press" in catalog.workflows


@pytest.mark.parametrize("target", ["/etc/hostname", "release.md"], ids=["outside", "itself"])
def test_a_prompt_that_links_out_of_its_folder_or_to_itself_is_refused(tmp_path: Path, target: str) -> None:
    folder = write_workflow(tmp_path)
    (folder / "release.md").unlink()
    (folder / "release.md").symlink_to(target)
    with pytest.raises(WorkflowFileError, match=r"^press/workflow\.yaml:4: release\.md lies outside"):
        load_workflow(folder)


def test_a_pipe_in_place_of_a_prompt_does_not_block(tmp_path: Path) -> None:
    folder = write_workflow(tmp_path)
    (folder / "release.md").unlink()
    os.mkfifo(folder / "release.md")
    with pytest.raises(WorkflowFileError, match=r"^press/workflow\.yaml:4: the file release\.md is not a file$"):
        load_workflow(folder)


def test_a_folder_that_may_not_be_read_is_one_line() -> None:
    # pytest's own folders are closed to others, so this one stands beside them.
    with TemporaryDirectory() as root:
        os.chmod(root, 0o755)
        folder = write_workflow(Path(root))
        folder.chmod(0)
        try:
            with _without_privileges(), pytest.raises(WorkflowFileError) as refusal:
                load_workflow(folder)
        finally:
            folder.chmod(0o755)
    assert str(refusal.value) == "press/workflow.yaml:1: the file workflow.yaml cannot be read: Permission denied"


def test_the_error_of_an_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(InvalidInput) as refusal:
        load_catalog().get("nope")
    assert str(refusal.value) == f"there is no workflow 'nope'; known: {', '.join(sorted(BUNDLED))}"
    assert refusal.value.pointer == "/workflow"


def test_an_unknown_stage_is_not_found(tmp_path: Path) -> None:
    workflow = load_workflow(write_workflow(tmp_path))
    assert workflow.stage("recipients").title == "Recipients"
    with pytest.raises(NotFound, match="the workflow press has no stage nope"):
        workflow.stage("nope")


@contextmanager
def _without_privileges() -> Iterator[None]:
    user = os.geteuid()
    if user == 0:
        os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(user)
