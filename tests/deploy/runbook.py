"""The runbook parsed for tests: its command blocks, each with the HTML comment above it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from textwrap import dedent

from tests.deploy.blueprint import ROOT

TEXT = (ROOT / "deploy" / "RUNBOOK.md").read_text()
PLATFORM = "platform"
BLOCK = re.compile(
    r"(?:^ *<!-- (?P<remark>.+?) -->\n)?^(?P<indent> *)```sh\n(?P<body>.+?)^(?P=indent)```$", re.M | re.S
)


@dataclass(frozen=True, slots=True)
class Block:
    """Commands that an operator types.

    Attributes:
        remark: the condition under which the block may run, empty if there is none.
    """

    commands: str
    remark: str

    @property
    def name(self) -> str:
        """The first command, for a test's name."""
        return self.commands.splitlines()[0].removeprefix("uv run python -m vm_webapp ")


def blocks() -> list[Block]:
    """Return every block of commands, in order."""
    return [Block(dedent(found["body"]), found["remark"] or "") for found in BLOCK.finditer(TEXT)]


def variables() -> dict[str, str]:
    """Return the table of variables: name → value, or a description of the value."""
    (table,) = re.findall(r"^\| Variable \| Value \|\n\| --- \| --- \|\n((?:\|.*\n)+)", TEXT, re.M)
    return {name: value.strip("`") for name, value in re.findall(r"^\| `(\w+)` \| (.+) \|$", table, re.M)}


def start_command(service: str) -> str:
    """Return the start command of a service from the table of services."""
    (command,) = re.findall(rf"^\| `{service}` \| .+ \| `(.+)` \|$", TEXT, re.M)
    return str(command)


def sections() -> dict[str, str]:
    """Return every section: its anchor, as GitHub makes it of the heading, → its text up to the next heading."""
    parts = re.split(r"^##+ (.+)$", TEXT, flags=re.M)[1:]
    return {
        re.sub(r"[^\w\- ]", "", heading).lower().replace(" ", "-"): body
        for heading, body in zip(parts[::2], parts[1::2], strict=True)
    }


def symptoms() -> dict[str, str]:
    """Return the sections below *Something is wrong*."""
    names, every = list(sections()), sections()
    first, last = names.index("something-is-wrong") + 1, names.index("roll-back")
    return {name: every[name] for name in names[first:last]}
