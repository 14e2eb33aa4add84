"""Mistakes in ``workflow.yaml``: each error is one line that names the file and the line."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.unit.workflow_files import MINIMAL, refusal_of, write_workflow

PROMPT_LINE = "    title: Recipients\n"


@pytest.mark.parametrize(
    ("old", "new", "line", "complaint"),
    [
        pytest.param("title: Press", "title: [Press", 2, "while parsing a flow sequence", id="not-yaml"),
        pytest.param("  - key: rel", "\t- key: rel", 4, "indent with spaces, not with tabs", id="tab"),
        pytest.param("description:", "descripton:", 1, "description is missing", id="missing"),
        pytest.param(MINIMAL, MINIMAL + "owner: me\n", 8, "owner is not a key that workflow files have", id="unknown"),
        pytest.param(PROMPT_LINE, PROMPT_LINE + "    approve: yes\n", 8, "stages.1.approve is not a key", id="nested"),
        pytest.param("title: Press release", "title: 2026", 1, "title: Input should be a valid string", id="number"),
        pytest.param("title: Press release", "title: ''", 1, "title: String should have at least 1", id="empty-text"),
        pytest.param("title: Press release", 'title: "a\\nb"', 1, "title must be one line", id="two-lines"),
        pytest.param(PROMPT_LINE, PROMPT_LINE + "    max_tokens: many\n", 8, "should be a valid integer", id="type"),
        pytest.param(PROMPT_LINE, PROMPT_LINE + "    max_tokens: 255\n", 8, "greater than or equal to 256", id="low"),
        pytest.param(PROMPT_LINE, PROMPT_LINE + "    timeout_seconds: .nan\n", 8, "timeout_seconds", id="nan"),
        pytest.param(PROMPT_LINE, PROMPT_LINE + "    timeout_seconds: .inf\n", 8, "timeout_seconds", id="inf"),
        pytest.param(PROMPT_LINE, PROMPT_LINE + "    requires_approval: 1\n", 8, "valid boolean", id="not-a-boolean"),
        pytest.param(PROMPT_LINE, PROMPT_LINE + "    artifact_name: ../x.md\n", 8, "artifact_name", id="file-name"),
        pytest.param(PROMPT_LINE, PROMPT_LINE + "    prompt: gone.md\n", 8, "gone.md is missing", id="missing-prompt"),
        pytest.param(PROMPT_LINE, PROMPT_LINE + "    prompt: release.md/x\n", 8, "is missing", id="file-as-folder"),
        pytest.param(
            PROMPT_LINE, PROMPT_LINE + "    prompt: .\n", 8, "the file . is not a file", id="folder-as-prompt"
        ),
        pytest.param(PROMPT_LINE, PROMPT_LINE + "    prompt: ../x.md\n", 8, "lies outside", id="outside"),
        pytest.param(PROMPT_LINE, PROMPT_LINE + "    prompt: /etc/passwd\n", 8, "lies outside", id="absolute"),
        pytest.param(PROMPT_LINE, f"{PROMPT_LINE}    prompt: {'a' * 300}.md\n", 8, "the file aaa", id="too-long"),
        pytest.param("key: recipients", "key: release", 6, "the stage release appears twice", id="duplicate-stage"),
        pytest.param("key: recipients", "key: Recipients", 6, "stages.1.key", id="stage-name"),
        pytest.param(MINIMAL, "title: A\ndescription: B\nstages: []\n", 3, "at least 1 item", id="no-stages"),
        pytest.param(MINIMAL, "title: A\ndescription: B\n", 1, "stages is missing", id="stages-missing"),
        pytest.param(MINIMAL, "title: A\ntitle: B\n", 2, "title is given twice", id="duplicate-key"),
        pytest.param(MINIMAL, "- a\n", 1, "the file must be a mapping", id="list"),
        pytest.param(MINIMAL, "", 1, "the file must be a mapping", id="empty"),
        pytest.param(MINIMAL, MINIMAL + "---\ntitle: B\n", 8, "expected a single document", id="two-documents"),
        pytest.param(MINIMAL, MINIMAL + "[a]: b\n", 8, "a key must be a word", id="list-as-key"),
        pytest.param("Press release", "&x Press release\nsystem: *x", 2, "aliases such as *x are not", id="alias"),
        pytest.param("title: Press release", "title: 2026-02-30", 1, "day is out of range", id="no-such-day"),
        pytest.param("title: Press release", 'title: !!bool "x"', 1, "tags, words that begin with !", id="tag-bool"),
        pytest.param("title: Press release", 'title: !!timestamp "x"', 1, "tags", id="tag-timestamp"),
        pytest.param("title: Press release", 'title: !!int ""', 1, "tags", id="tag-int"),
        pytest.param("stages:", "stages: !!python/object/apply:os.system", 3, "tags", id="tag-on-a-list"),
        pytest.param("title: Press release", 'title: "a\\0b"', 1, "there is a NUL or half", id="escaped-nul"),
        pytest.param("title: Press release", 'title: "\\ud800"', 1, "half a surrogate pair", id="surrogate"),
        pytest.param(MINIMAL, MINIMAL + '"\\ud800": 1\n', 8, "half a surrogate pair", id="surrogate-in-a-key"),
        pytest.param("title: Press release", "title: a\x00b", 1, "there is a NUL character", id="nul"),
        pytest.param("title: Press release", "title: a\x07b", 1, "the character U+0007 is not allowed", id="control"),
        pytest.param(MINIMAL, MINIMAL + "x: " + "[" * 500 + "]" * 500, 8, "nested too deeply", id="deep"),
    ],
)
def test_a_mistake_is_one_line_with_its_place(tmp_path: Path, old: str, new: str, line: int, complaint: str) -> None:
    assert old in MINIMAL
    problem = refusal_of(write_workflow(tmp_path, yaml=MINIMAL.replace(old, new, 1)))
    assert problem.startswith(f"press/workflow.yaml:{line}: ")
    assert complaint in problem
    assert problem.isprintable()


def test_a_workflow_file_that_is_not_utf_8_names_the_line(tmp_path: Path) -> None:
    folder = write_workflow(tmp_path, yaml=MINIMAL.replace("recipients.", "récipients.").encode("latin-1"))
    assert refusal_of(folder) == "press/workflow.yaml:2: the file is not UTF-8"


def test_of_several_mistakes_the_first_is_named(tmp_path: Path) -> None:
    yaml = MINIMAL.replace("A release and its recipients.", "2026").replace("    title: Recipients", "    name: 1")
    assert refusal_of(write_workflow(tmp_path, yaml=yaml)).startswith("press/workflow.yaml:2: description: ")


def test_a_complaint_stays_short_whatever_the_file_holds(tmp_path: Path) -> None:
    problem = refusal_of(write_workflow(tmp_path, yaml=f"{MINIMAL}? {'a' * 5000}\n: 1\n"))
    assert problem.endswith("…")
    assert len(problem) < 400
