"""Text that is not ours is printed as it is: nothing in the command line takes it for rich's markup."""

from __future__ import annotations

import ast
import io
from pathlib import Path

import pytest
from rich.console import Console
from rich.rule import Rule
from rich.table import Table

from vm_webapp.cli.terminal import PlainConsole, say, visible

CLI = Path(__file__).resolve().parents[2] / "vm_webapp"
HOSTILE = ("[/INST]", "docs [draft]", "Copy [EN]", "[red]x[/]", "[link=http://x]y[/link]", ":memo:", "[bold", "\\[x]")
# What reads markup in a string without asking the console, or makes another console.
READS_MARKUP = {
    *("rich.print", "rich.get_console", "rich.markup", "rich.prompt", "rich.traceback", "rich.logging"),
    *(
        "rich.progress.TextColumn",
        "rich.progress.track",
        "rich.progress.open",
        "rich.panel",
        "rich.status",
        "rich.spinner",
    ),
}


def printed(*objects: object, width: int = 200, **options: bool) -> str:
    console = PlainConsole(file=io.StringIO(), width=width, force_terminal=False)
    console.print(*objects, **options)  # type: ignore[arg-type]
    return console.file.getvalue()  # type: ignore[attr-defined, no-any-return]


@pytest.mark.parametrize("text", HOSTILE)
def test_no_string_is_taken_for_markup(text: str) -> None:
    table = Table(text, title=text, caption=text)
    table.add_row(text)
    assert printed(text) == f"{text}\n"
    assert printed(text, markup=True, emoji=True, highlight=True) == f"{text}\n"
    assert printed(table).count(text) == 4
    assert text in printed(Rule(text))
    console = PlainConsole(file=io.StringIO(), width=20, markup=True)
    say(console, f"python -m vm_webapp run --resume {text}")
    assert console.file.getvalue() == f"python -m vm_webapp run --resume {text}\n"  # type: ignore[attr-defined]


def test_control_characters_become_visible() -> None:
    assert visible("a\x1b[2Jb\r\nc\td\x07\x7f\x9b\x00") == "a␛[2Jb\nc\td␇␡\ufffd␀"
    assert visible("pay \u202e001\u202c \u2066x\u2069 שלום") == "pay \ufffd001\ufffd \ufffdx\ufffd שלום"
    assert all(character.isprintable() or character in "\n\t" for character in visible("".join(map(chr, range(0xA0)))))


def test_every_console_is_a_plain_one_and_nothing_else_reads_markup() -> None:
    wrong = [
        f"{path.relative_to(CLI.parent)}:{line}: {name}"
        for folder in ("vm_webapp", "api", "actors")
        for path in sorted((CLI.parent / folder).rglob("*.py"))
        for line, name in _uses_of_rich(path)
        if name in READS_MARKUP
        or name.rpartition(".")[0] in READS_MARKUP
        or name in ("from_markup", "render_markup")
        or (name == "Console()" and path.name != "terminal.py")
    ]
    assert wrong == []


def test_the_check_above_finds_what_it_looks_for(tmp_path: Path) -> None:
    path = tmp_path / "module.py"
    path.write_text(
        "from rich.progress import TextColumn\nimport rich.markup\nfrom rich import print\nimport rich.console\n"
        "rich.console.Console()\nText.from_markup('x')\n"
    )
    names = {name for _, name in _uses_of_rich(path)}
    assert {"rich.progress.TextColumn", "rich.markup", "rich.print", "Console()", "from_markup"} <= names


def test_rich_itself_still_works_as_the_console_expects() -> None:
    # The console overrides this method; another signature in a newer rich would let markup through again.
    assert Console.render_str.__code__.co_varnames[:2] == ("self", "text")
    assert PlainConsole(file=io.StringIO()).render_str("[b]x[/b]", style="red").plain == "[b]x[/b]"


def _uses_of_rich(path: Path) -> list[tuple[int, str]]:
    found = []
    source = path.read_text(encoding="utf-8")
    if not any(word in source for word in ("rich", "Console", "from_markup")):
        return []  # to parse all modules takes a second
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "rich":
            found += [(node.lineno, f"{node.module}.{alias.name}") for alias in node.names]
        elif isinstance(node, ast.Import):
            found += [(node.lineno, alias.name) for alias in node.names if alias.name.split(".")[0] == "rich"]
        elif isinstance(node, ast.Call) and _name_of(node.func) == "Console":
            found.append((node.lineno, "Console()"))
        elif isinstance(node, ast.Attribute) and node.attr == "from_markup":
            found.append((node.lineno, "from_markup"))
    return found


def _name_of(function: ast.expr) -> str:
    return function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")
