"""What a stage's prompt is made of, and that nothing people typed is ever run as a template."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import date
from pathlib import Path
from threading import Barrier

import pytest
from jinja2 import Template

from tests.unit.workflow_files import write_workflow
from vm_webapp.errors import RenderError
from vm_webapp.llm.base import Section
from vm_webapp.workflows.environment import PromptEnvironment, compiled, environment
from vm_webapp.workflows.loader import load_catalog, load_workflow
from vm_webapp.workflows.model import Workflow
from vm_webapp.workflows.render import EarlierArtifact, Remark, StageContext, render_assignment, template_variables
from vm_webapp.workflows.rendering import render_source

BRAND = {
    "name": "Molar",
    "voice": "Calm and plain",
    "audience": "Dentists with two chairs",
    "products": ["Molar Desk"],
    "facts": ["Founded in 2019"],
    "forbidden_words": ["revolutionary", "smile"],
}
PROJECT = {
    "name": "Autumn",
    "objective": "Thirty trials",
    "channels": ["e-mail", "search"],
    "starts_on": "2026-09-01",
    "ends_on": None,
}
RESEARCH = EarlierArtifact("release", "Release", "The release says so.")
HOSTILE = "{{ 7*7 }} {% for x in y %} {# gone #} {{ brand.name }} {% include 'x' %}"


@pytest.fixture
def press(tmp_path: Path) -> Workflow:
    return load_workflow(write_workflow(tmp_path))


def test_threads_that_begin_together_compile_a_template_once(monkeypatch: pytest.MonkeyPatch) -> None:
    count, together = 32, Barrier(32)
    made: list[Template] = []

    def from_string(source: str) -> Template:
        made.append(PromptEnvironment().from_string(source))
        return made[-1]

    def compile_it(number: int) -> Template:
        together.wait()
        return compiled("A template that is new: {{ request }}" + "{% if brand %}{{ brand.name }}{% endif %}" * 50)

    monkeypatch.setattr(environment, "from_string", from_string)
    with ThreadPoolExecutor(count) as threads:
        assert len(set(threads.map(compile_it, range(count)))) == 1
    assert len(made) == 1


def _user(workflow: Workflow, context: StageContext, *, stage: int = 1) -> str:
    return render_assignment(workflow, workflow.stages[stage], context).user


def test_the_prompt_comes_first_and_the_material_below_it(press: Workflow) -> None:
    text = _user(press, StageContext("Announce the Desk", BRAND, PROJECT, (RESEARCH,)))
    parts = [
        "List the recipients.",
        "<request>\nAnnounce the Desk\n</request>",
        '<brand name="Molar">',
        "Voice: Calm and plain",
        "Audience: Dentists with two chairs",
        "- Molar Desk",
        "- Founded in 2019",
        "Words that must not appear: revolutionary, smile",
        '<project name="Autumn">',
        "Objective: Thirty trials",
        "Channels: e-mail, search",
        "Dates: 2026-09-01 to open",
        '<document stage="release" title="Release">\nThe release says so.\n</document>',
        'Write "Recipients"',
    ]
    places = [text.index(part) for part in parts]
    assert places == sorted(places)


def test_what_is_not_known_leaves_no_trace(press: Workflow) -> None:
    text = _user(press, StageContext("Announce the Desk"))
    for trace in ("<brand", "<project", "<document", "<draft", "<feedback", "<remarks", "Today", "None", "\n\n\n"):
        assert trace not in text


@pytest.mark.parametrize("brand", [{}, {"name": "Molar"}, {"name": "Molar", "facts": None, "later_field": "x"}])
def test_a_snapshot_with_fewer_or_more_fields_still_renders(press: Workflow, brand: dict[str, object]) -> None:
    assert f'<brand name="{brand.get("name", "")}">' in _user(press, StageContext("x", brand))


def test_feedback_comes_with_the_draft_it_is_about(press: Workflow) -> None:
    text = _user(press, StageContext("x", feedback="Shorter, please", draft="The long draft"))
    assert text.index("<draft>\nThe long draft\n</draft>") < text.index("<feedback>\nShorter, please\n</feedback>")
    assert "Revise that draft" in text


def test_text_that_breaks_off_is_said_to_break_off(press: Workflow) -> None:
    half = replace(RESEARCH, truncated=True)
    text = _user(press, StageContext("x", earlier=(RESEARCH, half), feedback="on", draft="y", draft_truncated=True))
    assert text.count("The release says so.\n</document>\nThe document above breaks off") == 1
    assert "y\n</draft>\nThe draft above breaks off" in text
    whole = _user(press, StageContext("x", earlier=(RESEARCH,), feedback="on", draft="y"))
    assert "breaks off" not in whole


def test_an_older_worker_renders_the_context_block(press: Workflow) -> None:
    # In a deploy, older workers render the prompts of newer runs, and know fewer variables.
    known = template_variables(press, press.stages[1], StageContext("x", earlier=(RESEARCH,), feedback="y", draft="z"))
    for name in ("remarks", "today", "draft_truncated"):
        del known[name]
    known["earlier"] = [{"stage_key": "release", "title": "Release", "content": "It says so."}]
    assert "<document stage=" in compiled(press.context).render(known)


def test_the_outline_names_headings_and_questions_in_order(press: Workflow) -> None:
    sections = (Section("Lead", ("What happened?", "Why now?")), Section("Boilerplate"))
    stage = replace(press.stages[0], sections=sections)
    text = render_assignment(press, stage, StageContext("x")).user
    assert "\n1. Lead — What happened? Why now?\n2. Boilerplate\n" in text


@pytest.mark.parametrize("field", ["request", "feedback", "draft", "document", "brand", "project"])
def test_what_people_typed_is_never_rendered_as_a_template(press: Workflow, field: str) -> None:
    context = {
        "request": StageContext(HOSTILE),
        "feedback": StageContext("x", feedback=HOSTILE, draft="y"),
        "draft": StageContext("x", feedback="y", draft=HOSTILE),
        "document": StageContext("x", earlier=(replace(RESEARCH, content=HOSTILE),)),
        "brand": StageContext("x", BRAND | {"voice": HOSTILE}),
        "project": StageContext("x", None, PROJECT | {"objective": HOSTILE}),
    }[field]
    text = _user(press, context)
    assert HOSTILE in text
    assert "49" not in text


def test_markup_is_passed_on_as_it_was_typed(press: Workflow) -> None:
    typed = "<b>R&D</b> \"quoted\" 'x' — ünïcode 🦷"
    assert typed in _user(press, StageContext(typed))


def test_an_earlier_document_can_be_named_even_where_it_is_called_like_a_method(tmp_path: Path) -> None:
    yaml = "title: T\ndescription: D\nstages:\n  - {key: copy, title: Copy}\n  - {key: items, title: Items}\n"
    prompts = {"copy.md": "Write.", "items.md": "From: {{ artifacts.copy }}"}
    workflow = load_workflow(write_workflow(tmp_path, yaml=yaml, prompts=prompts))
    context = StageContext("x", earlier=(EarlierArtifact("copy", "Copy", "the copy"),))
    assert _user(workflow, context).startswith("From: the copy\n")


def test_a_template_reads_the_fields_of_a_record_and_nothing_else_of_it(press: Workflow) -> None:
    stage = replace(press.stages[0], prompt="{% for one in earlier %}{{ one.title }}{{ one.__class__ }}{% endfor %}")
    with pytest.raises(RenderError, match="has no attribute '__class__'"):
        render_assignment(press, stage, StageContext("x", earlier=(RESEARCH,)))


@pytest.mark.parametrize("prompt", ["Say {so}.\n\n", "100 % }} {", "one\r\ntwo\r"])
def test_a_prompt_without_tags_is_what_jinja_makes_of_it(prompt: str) -> None:
    assert render_source(prompt, {}) == compiled(prompt).render()


def test_without_a_model_the_prompt_alone_is_the_document(press: Workflow) -> None:
    stage = replace(press.stages[0], needs_model=False, prompt="Asked: {{ request }}\n")
    assert render_assignment(press, stage, StageContext("a bicycle")).user == "Asked: a bicycle\n"


def test_an_assignment_carries_what_a_provider_without_a_model_needs(press: Workflow) -> None:
    context = StageContext("x", BRAND, PROJECT, (RESEARCH,), feedback="y", draft="z")
    assignment = render_assignment(press, press.stages[1], context)
    assert (assignment.workflow_title, assignment.stage_key) == ("Press release", "recipients")
    assert (assignment.brand, assignment.project, assignment.feedback) == (BRAND, PROJECT, "y")
    assert assignment.earlier == (("release", "Release"),)
    assert assignment.max_tokens == press.stages[1].max_tokens


def test_a_template_that_fails_on_real_values_names_the_stage(press: Workflow) -> None:
    stage = replace(press.stages[0], prompt="{{ 1 // (request | length - 2) }}")
    with pytest.raises(RenderError, match=r"the prompt of release could not be rendered: .*division"):
        render_assignment(press, stage, StageContext("ab"))


@pytest.mark.parametrize("workflow", load_catalog().workflows.values(), ids=lambda workflow: workflow.name)
def test_a_worker_that_knows_neither_date_nor_remarks_renders_todays_prompts(workflow: Workflow) -> None:
    for stage in workflow.stages:
        context = StageContext("x", BRAND, PROJECT, (RESEARCH,), feedback="y", draft="z")
        variables = template_variables(workflow, stage, context)
        older = {name: value for name, value in variables.items() if name not in ("today", "remarks")}
        for template in (workflow.system, stage.prompt, workflow.context):
            assert compiled(template).render(older) == compiled(template).render(variables)


def test_the_date_and_earlier_remarks_are_part_of_the_material(press: Workflow) -> None:
    said = (Remark("release", "Release", "Name the price"), Remark("release", "Release", "Good"))
    text = _user(press, StageContext("x", remarks=said, today=date(2026, 3, 1)))
    assert text.index("Today is 2026-03-01.") < text.index("<request>")
    assert "- Release: Name the price\n- Release: Good\n</remarks>" in text
