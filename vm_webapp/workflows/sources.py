"""Reads the files of a workflow folder so that every error message can name a file and a line."""

from __future__ import annotations

import stat
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from vm_webapp.errors import WorkflowFileError
from vm_webapp.text import is_storable, single_line

MAX_COMPLAINT = 300
MAX_DEPTH = 20


def broken(where: str, line: int, what: str) -> WorkflowFileError:
    """Return the error for a line of a file."""
    return WorkflowFileError(f"{one_line(where)}:{line}: {one_line(what)}")


def one_line(text: str) -> str:
    """Return a text as one short line of printable characters, whatever a file or its name contains."""
    words = single_line(text)
    shown = "".join(character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in words)
    return shown if len(shown) <= MAX_COMPLAINT else shown[: MAX_COMPLAINT - 1] + "…"


def lies_within(path: Path, folder: Path) -> bool:
    """Return whether a path, with links resolved, is inside a folder."""
    try:
        return path.resolve().is_relative_to(folder.resolve())
    except (OSError, RuntimeError):  # a loop of links; RuntimeError before Python 3.13
        return False


def why_unreadable(path: Path) -> str | None:
    """Return why a path is not a regular file, None if it is one. A pipe is refused: reading it would block."""
    try:
        mode = path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        return "is missing"
    except OSError as error:
        return f"cannot be read: {error.strerror}"
    return None if stat.S_ISREG(mode) else "is not a file"


def read_text(path: Path, where: str) -> str:
    """Return a text file's content; line ends become ``\\n`` and a byte order mark is dropped.

    Args:
        path: the file.
        where: its name in messages.

    Raises:
        WorkflowFileError: it cannot be read, is not UTF-8, or contains NUL characters, which PostgreSQL cannot store.
    """
    # Bytes, not ``read_text``: the error then knows the position, and so the line, of the first wrong byte.
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise broken(where, error.object[: error.start].count(b"\n") + 1, "the file is not UTF-8") from None
    except OSError as error:
        raise broken(where, 1, error.strerror or "the file cannot be read") from None
    if "\x00" in text:
        raise broken(where, text[: text.index("\x00")].count("\n") + 1, "there is a NUL character")
    return text.replace("\r\n", "\n")


@dataclass(frozen=True, slots=True)
class YamlSource:
    """A YAML file's data, and the line of each part.

    Attributes:
        where: the file's name in messages.
        data: its content as plain values.
        root: its syntax tree, which knows the lines.
    """

    where: str
    data: Any
    root: yaml.Node

    def line(self, path: Sequence[int | str]) -> int:
        """Return the line of the value at a path, or of its nearest existing ancestor."""
        node, line = self.root, self.root.start_mark.line
        for part in path:
            found = _child(node, part)
            if found is None:
                break
            line, node = found
        return line + 1


def read_yaml(path: Path, where: str) -> YamlSource:
    """Read a YAML file that contains a mapping.

    Args:
        path: the file.
        where: its name in messages.

    Raises:
        WorkflowFileError: it cannot be read, is not YAML, or has aliases, tags or duplicate keys, which are refused.
    """
    text = read_text(path, where)
    try:
        root = _compose(text, where)
        return YamlSource(where, _plain(root, where), root)
    except yaml.MarkedYAMLError as error:
        line = _line(error.problem_mark or error.context_mark)
        raise broken(where, line, _complaint(error)) from None
    except yaml.reader.ReaderError as error:
        line = text[: error.position].count("\n") + 1
        raise broken(where, line, f"the character U+{error.character:04X} is not allowed") from None


def _complaint(error: yaml.MarkedYAMLError) -> str:
    said = ", ".join(part for part in (error.context, error.problem) if part) or "this is not YAML"
    return f"{said}; indent with spaces, not with tabs" if "'\\t'" in said else said


def _line(mark: Any) -> int:
    return mark.line + 1 if mark else 1


class _PlainLoader(yaml.SafeLoader):
    """Composes a syntax tree and refuses aliases, tags and deep nesting."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self._depth = 0

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        event = self.peek_event()  # type: ignore[no-untyped-call]
        # Nested aliases expand exponentially ("billion laughs"), and deep nesting overflows Python's stack.
        if isinstance(event, yaml.AliasEvent):
            raise _refusal(f"aliases such as *{event.anchor} are not supported", event)
        if getattr(event, "tag", None):
            raise _refusal("tags, words that begin with !, are not supported", event)
        if self._depth == MAX_DEPTH:
            raise _refusal("this is nested too deeply", event)
        self._depth += 1
        node = super().compose_node(parent, index)
        self._depth -= 1
        return node


def _refusal(what: str, event: Any) -> yaml.MarkedYAMLError:
    return yaml.MarkedYAMLError(problem=what, problem_mark=event.start_mark)


def _compose(text: str, where: str) -> yaml.Node:
    root: yaml.Node | None = yaml.compose(text, Loader=_PlainLoader)
    if not isinstance(root, yaml.MappingNode):
        raise broken(where, 1, "the file must be a mapping with title, description and stages")
    return root


def _plain(node: yaml.Node, where: str) -> Any:
    if isinstance(node, yaml.MappingNode):
        return _mapping(node, where)
    if isinstance(node, yaml.SequenceNode):
        return [_plain(item, where) for item in node.value]
    return _scalar(node, where)


def _mapping(node: yaml.MappingNode, where: str) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for key, value in node.value:
        line = key.start_mark.line + 1
        if not isinstance(key, yaml.ScalarNode):
            raise broken(where, line, "a key must be a word")
        _refuse_unstorable(key.value, where, line)
        # PyYAML's own constructor would silently keep the last of two equal keys.
        if key.value in values:
            raise broken(where, line, f"{key.value} is given twice")
        values[key.value] = _plain(value, where)
    return values


def _scalar(node: yaml.Node, where: str) -> Any:
    line = node.start_mark.line + 1
    try:
        value = yaml.SafeLoader("").construct_object(node)
    except ValueError as error:  # such as the unquoted date 2026-02-30
        raise broken(where, line, str(error)) from None
    if isinstance(value, str):
        _refuse_unstorable(value, where, line)
    return value


def _refuse_unstorable(text: str, where: str, line: int) -> None:
    if not is_storable(text):
        raise broken(where, line, "there is a NUL or half a surrogate pair in this text")


def _child(node: yaml.Node, part: int | str) -> tuple[int, yaml.Node] | None:
    if isinstance(node, yaml.MappingNode):
        return next(((key.start_mark.line, value) for key, value in node.value if key.value == part), None)
    if isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
        item: yaml.Node = node.value[part]
        return item.start_mark.line, item
    return None
