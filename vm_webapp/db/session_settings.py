"""The settings that every session of ours has, in the forms in which they can be given to PostgreSQL."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

# ``-c name=value`` or ``--name=value``; a backslash in a value escapes the character after it.
_OPTION = re.compile(r"(?:-c\s*|--)([A-Za-z_][\w.-]*)=((?:\\.|[^\s\\])*)")
_ESCAPED = re.compile(r"\\(.)")


@dataclass(frozen=True)
class SessionSettings:
    """Settings of a session.

    Attributes:
        ours: name → value, of which nothing needs quoting.
        given: the ``options`` of the database's address, which ours override.
    """

    ours: Mapping[str, str]
    given: str = ""

    @property
    def start_up_options(self) -> tuple[str, ...]:
        """Values of the start-up parameter ``options``, from the best to none: poolers refuse some."""
        ours = " ".join(f"-c {name}={value}" for name, value in self.ours.items())
        # Some poolers refuse settings and require options of their own there, such as the name of an endpoint.
        return (f"{self.given} {ours}", self.given, "") if self.given else (ours, "")

    @property
    def for_transaction(self) -> str:
        """Statements that make the settings for the current transaction alone."""
        return self._statements("SET LOCAL", "true")

    @property
    def for_session(self) -> str:
        """Statements that make the settings until the session ends: right only if nobody else gets the session."""
        return self._statements("SET", "false")

    @property
    def undone(self) -> str:
        """Statements that undo ``for_session``."""
        names = [*self._given_settings(), *self.ours]
        return "; ".join(f"RESET {name}" for name in names)

    def _statements(self, verb: str, local: str) -> str:
        # ``set_config`` reads a list, such as that of search_path, as the options do; SET takes it for one name.
        given = [
            f"SELECT set_config('{name}', {_quoted(value)}, {local})" for name, value in self._given_settings().items()
        ]
        return "; ".join([*given, *(f"{verb} {name} = '{value}'" for name, value in self.ours.items())])

    def _given_settings(self) -> dict[str, str]:
        return {name.replace("-", "_"): _ESCAPED.sub(r"\1", value) for name, value in _OPTION.findall(self.given)}


def _quoted(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"
