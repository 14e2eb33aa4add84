"""A template that would never end, or take all memory, is refused in one line, and ends its attempt in a run."""

from __future__ import annotations

import signal
from dataclasses import replace
from pathlib import Path

import pytest

from tests.support.forms import only_in_full
from tests.unit.workflow_files import refusal_of, write_workflow
from vm_webapp.errors import RenderError
from vm_webapp.workflows import rendering
from vm_webapp.workflows.environment import TOO_LONG, environment
from vm_webapp.workflows.limited import TOO_LARGE, TOO_SLOW
from vm_webapp.workflows.loader import load_catalog, load_workflow
from vm_webapp.workflows.plain import MAX_OPERATIONS, is_plain
from vm_webapp.workflows.render import EarlierArtifact, StageContext, render_assignment

# A template that gets past its limits would otherwise hang the test.
pytestmark = pytest.mark.timeout(30)

LOOPS = "{% for a in range(99999) %}" * 3
LOOPS_END = "{% endfor %}" * 3
CHARACTERS = "{% for a in request %}"
NOTED = "{% set n = namespace(t='x') %}"
MACRO = "{% macro f(n) %}{% if n %}{{ f(n - 1) }}{{ f(n - 1) }}{% endif %}{% endmacro %}"
LISTS = "{% set a = [1, 2] %}\n" + "{% set a = [a, a] %}\n" * 60
OTHER_LISTS = LISTS.replace("set a", "set b").replace("a, a", "b, b")

RUNAWAYS = [
    pytest.param("{% for i in range(10**9) %}x{% endfor %}", "Range too big", id="range"),
    pytest.param(f"a\n{LOOPS}{LOOPS_END}", TOO_SLOW, id="nested-loops"),
    pytest.param(f"{LOOPS}x{LOOPS_END}", TOO_LONG, id="nested-loops-with-text"),
    pytest.param(f"{NOTED}{LOOPS}{{% set n.t = n.t ~ n.t %}}{LOOPS_END}", TOO_LARGE, id="concatenation"),
    pytest.param('{{ "a" * 10**9 }}', TOO_LARGE, id="text-times"),
    pytest.param("{{ [0] * 10**9 }}", TOO_LARGE, id="list-times"),
    pytest.param('{{ "a" * 5000000 }}', TOO_LONG, id="text-times-less"),
    only_in_full("a\n{{ 10**(10**9) }}", TOO_SLOW, id="power"),  # test_other_workflows_load_beside_runaways has it
    only_in_full("{% autoescape 10**(10**9) %}{% endautoescape %}", TOO_SLOW, id="power-when-compiled"),
    pytest.param("{{ request | center(10**9) }}", TOO_LARGE, id="center"),
    pytest.param('{{ "a" | center(10**9) }}', TOO_LARGE, id="center-of-a-constant"),
    pytest.param('{{ "a\n" | indent(10**9) }}', TOO_LARGE, id="indent"),
    pytest.param('{{ ("a" * 10**6) | replace("a", "b" * 10**6) }}', TOO_LARGE, id="replace"),
    pytest.param('{{ ("a" * 10**6) | join("b" * 10**6) }}', TOO_LARGE, id="join"),
    only_in_full('{{ ("a" * 10**7) | wordwrap(1) | length }}', TOO_SLOW, id="wordwrap"),
    pytest.param("{{ [request] | batch(10**9, request) | list }}", TOO_LARGE, id="batch"),
    only_in_full("{{ [request] | slice(10**9) | list }}", None, id="slice"),
    only_in_full('{{ 1.5 | round(10**9, "floor") }}', TOO_SLOW, id="round"),
    only_in_full("{{ lipsum(n=10**9) }}", TOO_SLOW, id="lipsum"),
    pytest.param('{{ "%1000000000d" % 1 }}', TOO_LARGE, id="percent"),
    pytest.param('{{ "%1000000000d" | format(1) }}', TOO_LARGE, id="format-filter"),
    pytest.param('{{ "{:1000000000}".format(1) }}', TOO_LARGE, id="format"),
    pytest.param("{{ request.ljust(10**9) }}", TOO_LARGE, id="method"),
    only_in_full(LISTS + "{{ a }}", None, id="lists-of-lists"),
    only_in_full(LISTS + OTHER_LISTS + "{{ a == b }}", TOO_SLOW, id="equal"),
    pytest.param("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}", "recursion", id="recursion"),
    only_in_full(MACRO + "{{ f(60) }}", TOO_SLOW, id="macros"),
    pytest.param("{% block a %}{{ self.a() }}{% endblock %}", "recursion", id="block"),
    pytest.param("{% for a in [1] recursive %}{{ loop([1]) }}{% endfor %}", "recursion", id="recursive-loop"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "complaint"), RUNAWAYS)
def test_a_runaway_template_is_refused_in_one_line(tmp_path: Path, text: str, complaint: str | None) -> None:
    problem = refusal_of(write_workflow(tmp_path, prompts={"release.md": text}))
    assert problem.startswith("press/release.md:")
    assert complaint is None or complaint in problem
    assert "\n" not in problem


@pytest.mark.parametrize(
    ("text", "line"),
    [(f"a\n\n{LOOPS}{LOOPS_END}", 3), ('a\n{{ "a" * 10**9 }}', 2), only_in_full(f"{{# #}}\n\n{LOOPS}x{LOOPS_END}", 3)],
)
def test_the_line_of_what_takes_too_long_is_named(tmp_path: Path, text: str, line: int) -> None:
    problem = refusal_of(write_workflow(tmp_path, prompts={"release.md": text}))
    assert problem.startswith(f"press/release.md:{line}: ")


def test_other_workflows_load_beside_runaways(tmp_path: Path) -> None:
    write_workflow(tmp_path, "before", prompts={"release.md": "{% set a = [1] %}{{ a[0] }}"})
    write_workflow(tmp_path, "power", prompts={"release.md": "{{ 10**(10**9) }}"})
    write_workflow(tmp_path, "sound", prompts={"release.md": "{% set a = [1] %}{{ a[0] }}"})
    catalog = load_catalog(tmp_path)
    assert catalog.problems == (f"power/release.md:1: {TOO_SLOW}",)
    assert {"before", "sound"} < catalog.workflows.keys()


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        (f"{CHARACTERS}{CHARACTERS}{{% if request | upper %}}{{% endif %}}{{% endfor %}}{{% endfor %}}", TOO_SLOW),
        only_in_full("{{ 10 ** (10 ** (request | length // 10)) }}", TOO_SLOW),
        ("{{ request * (request | length) * 10**4 }}", TOO_LARGE),
        ("{{ request * (request | length) }}", TOO_LONG),
        ("{{ request }}" * 1000, TOO_LONG),
        ("{% for a in earlier %}{{ request }}{% endfor %}", TOO_LONG),
    ],
)  # fmt: skip
def test_a_template_that_runs_away_on_real_values_fails_its_attempt(tmp_path: Path, text: str, complaint: str) -> None:
    workflow = load_workflow(write_workflow(tmp_path, prompts={"release.md": "Sound."}))
    stage = replace(workflow.stages[0], prompt=text)
    context = StageContext("a" * 5000, earlier=(EarlierArtifact("release", "Release", "x"),) * 1000)
    with pytest.raises(RenderError) as failed:
        render_assignment(workflow, stage, context)
    assert str(failed.value) == f"the prompt of release could not be rendered: {complaint}"
    assert failed.value.permanent
    # The next template is not affected.
    plain = replace(stage, prompt="{% set a = request[:3] %}{{ a }}.", needs_model=False)
    assert render_assignment(workflow, plain, context).user == "aaa."


def test_what_templates_see_is_the_same_in_the_other_process(tmp_path: Path) -> None:
    workflow = load_workflow(write_workflow(tmp_path))
    text = "{% for a in earlier %}{{ a.stage_key }}: {{ a.content }}{% if not a.truncated %}.{% endif %}{% endfor %}"
    context = StageContext("x", {"name": "Ö"}, earlier=(EarlierArtifact("release", "Release", "»\ud800«"),))
    stage = replace(workflow.stages[1], prompt=text + " {{ brand.name }}", needs_model=False)
    limited = replace(stage, prompt="{% set b = [1] %}" + stage.prompt)
    assert render_assignment(workflow, limited, context) == render_assignment(workflow, stage, context)


def test_a_template_sees_neither_keys_nor_urls(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KIMI_API_KEY", "s3cret")
    rendering.close_renderer()
    rendering.render_source("{% set a = [1] %}", {})
    process = rendering._elsewhere._process
    assert process is not None
    assert b"s3cret" not in Path(f"/proc/{process.pid}/environ").read_bytes()


def test_the_process_that_renders_is_replaced_when_it_was_killed() -> None:
    assert rendering.render_source("{% set a = [1] %}{{ a[0] }}", {}) == "1"
    process = rendering._elsewhere._process
    assert process is not None
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert rendering.render_source("{% set a = [1] %}{{ a[0] }}", {}) == "1"


@pytest.mark.parametrize(
    "text",
    [
        "Write about {{ request }} for {{ workflow }}: {{ stage.title | upper }}, {{ artifacts.release | trim }}.",
        '{% if brand.facts | length > 2 %}{{ brand.facts | join(", ") }}{% else %}{{ today or "-" }}{% endif %}',
        '{% for d in earlier if not d.truncated %}{{ loop.index }} {{ d.title | d("?") }}: {{ d.content }}{% endfor %}',
        "{% for s in sections %}{{ s.heading }}{% for q in s.questions %}{{ q | indent(2) }}{% endfor %}{% endfor %}",
        '{% for name, value in brand | items if value is string %}{{ name | replace("_", " ") }}{% endfor %}',
        "{% for d in earlier %}{% if d.stage_key != stage.key %}{{ d.content }}{% endif %}{% else %}none{% endfor %}",
        "{{ feedback if feedback else draft }}{% if remarks is defined and remarks %}{{ remarks[0].text }}{% endif %}",
        "{% for fact in brand.facts %}- {{ fact }}\n{% endfor %}",
        '{% set name = brand.name | trim if brand else "us" %}{% if name %}{{ name }}{% endif %}',
    ],
)
def test_templates_of_the_usual_kind_are_rendered_at_once(text: str) -> None:
    assert is_plain(environment.parse(text))


@pytest.mark.parametrize(
    "text",
    [
        "{% for a in earlier %}{% for b in earlier %}{% endfor %}{% endfor %}",
        "{% for a in earlier %}{% for b in a %}{% for c in a %}{% endfor %}{% endfor %}{% endfor %}",
        "{% for a in request %}{% endfor %}",
        "{% for a in earlier[0].content %}{% endfor %}",
        "{% for a in earlier %}{% for b in a.content %}{% endfor %}{% endfor %}",
        "{% for a in earlier %}{% if request | upper %}{% endif %}{% endfor %}",
        "{% for a in earlier %}{% if request == draft %}{% endif %}{% endfor %}",
        "{% for a in earlier if request | upper %}{% endfor %}",
        "{% for a in earlier recursive %}{% endfor %}",
        '{{ request | join(", ") | join(", ") }}',
        '{{ request | replace("", "a") }}',
        '{{ request | replace("a", "' + "b" * 99 + '") }}',
        "{{ request | indent(100) }}",
        "{{ request | indent(width=100) }}",
        "{{ request | center(5) }}",
        "{{ request.upper() }}",
        "{{ request ~ request }}",
        "{{ 2 * 2 }}",
        "{% set a = [1] %}",
        '{% set a = request | replace("a", "aa") %}',
        "{% set a = b ~ b %}",
        "{% set earlier = request %}",
        "{% set a = namespace() %}{% set a.b = 1 %}",
        "{% set a %}text{% endset %}",
        "{% for a in earlier %}{% set b = a %}{% endfor %}",
        "{% for stage in earlier %}{% endfor %}",
        "{% macro a() %}{% endmacro %}",
        "{{ range(5) }}{{ range }}{{ lipsum() }}",
        "{{ request | upper }}" * (MAX_OPERATIONS + 1),
    ],
)
def test_what_may_cost_more_than_it_shows_is_not_plain(text: str) -> None:
    assert not is_plain(environment.parse(text))
