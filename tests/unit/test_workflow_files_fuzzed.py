"""Any workflow file either loads or is refused in one printable line."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.unit.workflow_files import MINIMAL, write_workflow
from vm_webapp.errors import WorkflowFileError
from vm_webapp.workflows.loader import load_workflow

YAML_PIECES = (
    *("title: ", "stages:", "- ", "key: a", "? ", ": ", "'", '"', "[", "]", "{", "}", "&x ", "*x", "!!int ", "|", ">"),
    *("\n", "  ", "\t", "#", "---", "...", "<<", "=", "~", "1e999", "0x", "2026-13-01", "\\ud800", "\x00", "é", "\x85"),
)
TEMPLATE_PIECES = (
    *("{{ ", " }}", "{% ", " %}", "{# ", " #}", "if ", "for x in ", "endif", "endfor", "set ", "macro m()", "block b"),
    *("request", "brand", ".name", "artifacts", "[0]", "['a']", "|", "join", "()", "is none", "~", "-", "'", "\n", "x"),
)


@given(st.lists(st.sampled_from(YAML_PIECES), max_size=12).map("".join), st.integers(0, len(MINIMAL)))
@example("!!bool x", MINIMAL.index("Press"))
@settings(max_examples=25, deadline=None)
def test_any_workflow_file_loads_or_is_refused(inserted: str, place: int) -> None:
    refusal = _refusal(yaml=MINIMAL[:place] + inserted + MINIMAL[place:])
    assert refusal is None or (refusal.startswith("press/") and refusal.isprintable())


@given(st.lists(st.sampled_from(TEMPLATE_PIECES), max_size=12).map("".join))
@example("{% block b %}{% endblock %}" * 2)
@settings(max_examples=15, deadline=None)
def test_any_prompt_loads_or_is_refused(text: str) -> None:
    refusal = _refusal(prompt=text)
    assert refusal is None or (refusal.startswith("press/release.md:") and refusal.isprintable())


def _refusal(*, yaml: str = MINIMAL, prompt: str = "Write.") -> str | None:
    with TemporaryDirectory() as root:
        folder = write_workflow(Path(root), yaml=yaml, prompts={"release.md": prompt})
        try:
            load_workflow(folder)
        except WorkflowFileError as refusal:
            return str(refusal)
        return None
