"""Runs commands in this process, because starting Python takes longer than most of them."""

from __future__ import annotations

import logging
import os
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.support.processes import UNSET
from vm_webapp.cli import main


class CommandResult(NamedTuple):
    """A command's exit code and its output on each stream."""

    code: int
    out: str
    errors: str


@contextmanager
def logging_kept() -> Iterator[None]:
    """Undo what the block configures: a quiet command would silence the log of all tests after it."""
    root = logging.getLogger()
    level, handlers, hooks = root.level, list(root.handlers), (sys.excepthook, threading.excepthook)
    try:
        yield
    finally:
        root.setLevel(level)
        root.handlers[:] = handlers
        sys.excepthook, threading.excepthook = hooks


def command(capsys: pytest.CaptureFixture[str], env: Mapping[str, str], *arguments: str) -> CommandResult:
    """Run a command without a terminal. Of the product's variables, only those in ``env`` are set."""
    capsys.readouterr()
    with logging_kept(), pytest.MonkeyPatch.context() as patch, Path(os.devnull).open() as nothing:
        for name in UNSET:
            patch.delenv(name, raising=False)
        for name, value in env.items():
            patch.setenv(name, value)
        patch.setattr(sys, "stdin", nothing)
        try:
            code = main(arguments)
        except SystemExit as usage:
            code = int(str(usage.code))
    out, errors = capsys.readouterr()
    return CommandResult(code, out, errors)
