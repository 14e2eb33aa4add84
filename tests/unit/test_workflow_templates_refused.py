"""A prompt that could fail in the middle of a run is refused when its file is loaded."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.unit.workflow_files import MINIMAL, refusal_of, write_workflow
from vm_webapp.workflows.loader import load_workflow

DEEP = 1500


@pytest.mark.parametrize(
    ("text", "line", "complaint"),
    [
        pytest.param("a\n\n{{ requst }}", 3, "there is no variable requst", id="variable"),
        pytest.param("{% if feedback %}\n{{ nope }}\n{% endif %}", 2, "there is no variable nope", id="branch"),
        pytest.param("{% if false %}{{ nope }}{% endif %}", 1, "there is no variable nope", id="dead-branch"),
        pytest.param("{{ x }}{% set x = 1 %}", 1, "there is no variable x", id="set-too-late"),
        pytest.param("{% if brand %}\n{{ brand.vocie }}{% endif %}", 2, "there is no brand.vocie", id="field"),
        pytest.param("{% if brand %}{{ brand['vocie'] }}{% endif %}", 1, "there is no brand.vocie", id="item"),
        pytest.param("a\n{{ brand.name }}", 2, "name is read from none: use {% if %}", id="no-brand"),
        pytest.param("a\n{{ project.channels | join }}", 2, "channels is read from none", id="no-project"),
        pytest.param("{{ stage.number }}", 1, "there is no stage.number", id="stage-field"),
        pytest.param("{{ artifacts.recipients }}", 1, "recipients; it is not an earlier stage", id="later-stage"),
        pytest.param("{{ artifacts.release }}", 1, "release; it is not an earlier stage", id="own-stage"),
        pytest.param("{{ earlier[0].title }}", 1, "tuple object has no element 0", id="no-earlier-document"),
        pytest.param("a\n{{ request | shout }}", 2, "there is no filter shout", id="filter"),
        pytest.param("{% filter shout %}x{% endfilter %}", 1, "there is no filter shout", id="filter-block"),
        pytest.param("{% if request is loud %}{% endif %}", 1, "there is no test loud", id="test"),
        pytest.param("a\n{% if request %}", 2, "Unexpected end of template", id="unclosed"),
        pytest.param("a\nb\n{{ request", 3, "unexpected end of template", id="unclosed-value"),
        pytest.param("a\n{% shout %}", 2, "unknown tag 'shout'", id="tag"),
        pytest.param("{% block a %}{% endblock %}\n{% block a %}{% endblock %}", 2, "defined twice", id="block"),
        pytest.param("{% include 'x' %}", 1, "a prompt cannot take in other files", id="include"),
        pytest.param("{% extends 'x' %}", 1, "a prompt cannot take in other files", id="extends"),
        pytest.param("{{ request.__class__ }}", 1, "unsafe", id="sandbox"),
        pytest.param("a\n{{ 1 / 0 }}", 2, "division by zero", id="arithmetic"),
        pytest.param("{{ " + "(" * DEEP + "1" + ")" * DEEP + " }}", 1, "nested too deeply", id="deep-expression"),
        pytest.param("{% if 1 %}" * DEEP + "{% endif %}" * DEEP, 1, "nested too deeply", id="deep-statement"),
        pytest.param("{% for a in [] %}" * 30 + "{% endfor %}" * 30, 1, "nested too deeply", id="deep-loops"),
        pytest.param(" \n", 1, "the file is empty", id="empty"),
        pytest.param("a\nb\x00", 2, "there is a NUL character", id="nul"),
        pytest.param(b"a\nb\xe9", 2, "the file is not UTF-8", id="not-utf-8"),
    ],
)
def test_a_mistake_is_one_line_with_its_place(tmp_path: Path, text: str | bytes, line: int, complaint: str) -> None:
    problem = refusal_of(write_workflow(tmp_path, prompts={"release.md": text}))
    assert problem.startswith(f"press/release.md:{line}: ")
    assert complaint in problem
    assert problem.isprintable()


def test_a_system_message_sees_only_what_the_first_stage_sees(tmp_path: Path) -> None:
    yaml = f"system: editor.md\n{MINIMAL}"
    folder = write_workflow(tmp_path, yaml=yaml, prompts={"editor.md": "You edit.\n{{ artifacts.release }}"})
    assert refusal_of(folder) == "press/editor.md:2: there is no artifacts.release; it is not an earlier stage"


def test_a_template_may_use_everything_that_is_documented(tmp_path: Path) -> None:
    text = """\
{{ request }} {{ workflow }} {{ stage.key }} {{ stage.title }} {{ artifacts.release | trim }}
{% if brand %}{{ brand.name }} {{ brand.voice }} {{ brand.audience }} {{ brand.products | join(", ") }}
{{ brand.facts | length }} {{ brand.forbidden_words | first | default("none") }}{% endif %}
{% if project %}{{ project.name }} {{ project.objective }} {{ project.channels | join }}
{{ project.starts_on or "open" }} {{ project.ends_on or "open" }}{% endif %}
{% if feedback %}{{ feedback }} {{ draft }}{% endif %}
{% for document in earlier %}{{ document.stage_key }} {{ document.title }} {{ document.content }}{% endfor %}
{% for section in sections %}{{ loop.index }} {{ section.heading }} {{ section.questions | join(" ") }}{% endfor %}
"""
    assert load_workflow(write_workflow(tmp_path, prompts={"recipients.md": text})).stages[1].prompt == text
