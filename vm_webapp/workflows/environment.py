"""The template language of prompts: Jinja without side effects, and with a bound on the text that comes out."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Mapping
from functools import lru_cache
from threading import Lock
from typing import Any

from jinja2 import StrictUndefined, Template
from jinja2.runtime import LoopContext
from jinja2.sandbox import ImmutableSandboxedEnvironment

# Four times what a model with a context of 262,144 tokens reads.
MAX_CHARACTERS = 4_000_000
LOOP_NUMBERS = frozenset(("index", "index0", "first", "last"))
TOO_LONG = f"the text would be longer than {MAX_CHARACTERS:,} characters"


class TextTooLong(Exception):
    """A template renders to more text than any stage may have."""


def bounded(pieces: Iterable[str]) -> str:
    """Return the pieces as one text.

    Raises:
        TextTooLong: it would have more than ``MAX_CHARACTERS`` characters; no more pieces than that are made.
    """
    kept: list[str] = []
    left = MAX_CHARACTERS
    for piece in pieces:
        left -= len(piece)
        if left < 0:
            # Raised where the template stands, if it is still being rendered: the traceback then has the line.
            if isinstance(pieces, Generator):
                pieces.throw(TextTooLong(TOO_LONG))
            raise TextTooLong(TOO_LONG)
        kept.append(piece)
    return "".join(kept)


class PromptEnvironment(ImmutableSandboxedEnvironment):
    """Jinja without side effects, in which every name must exist."""

    concat = staticmethod(bounded)  # Jinja joins the pieces of a template, and of each macro, with this

    def __init__(self) -> None:
        # StrictUndefined: a misspelt name fails when the workflow is loaded, instead of leaving a gap in a prompt.
        super().__init__(undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True)

    def getattr(self, obj: Any, attribute: str) -> Any:
        """Return an attribute; of a mapping, its item and never its method; of a record, a field."""
        # Jinja tries attributes first: ``artifacts.copy`` would be dict.copy and not the artifact of a stage ``copy``.
        if obj is None:
            return self.undefined(f"{attribute} is read from none: use {{% if %}} around what may be none")
        # A number of a loop or a field of ours needs none of the sandbox's checks, which take longer than all else in a
        # prompt of many loops.
        if type(obj) is LoopContext and attribute in LOOP_NUMBERS:
            return getattr(obj, attribute)
        record = getattr(type(obj), "__dataclass_fields__", None)
        if record is not None:
            return getattr(obj, attribute) if attribute in record else self.undefined(obj=obj, name=attribute)
        if isinstance(obj, Mapping):
            return obj[attribute] if attribute in obj else self.undefined(obj=obj, name=attribute)
        return super().getattr(obj, attribute)


environment = PromptEnvironment()
_compiling = Lock()


def compiled(source: str) -> Template:
    """Return a template's compiled form, cached because each worker renders the same few templates again and again."""
    # One thread compiles and the others wait: 256 threads that begin together would each compile what the cache does
    # not have yet, for seconds of CPU.
    with _compiling:
        return _compiled(source)


@lru_cache(maxsize=512)
def _compiled(source: str) -> Template:
    return environment.from_string(source)
