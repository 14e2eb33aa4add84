"""Runs commands in this process, because starting Python takes longer than most of them."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
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


def command(capsys: pytest.CaptureFixture[str], env: Mapping[str, str], *arguments: str) -> CommandResult:
    """Run a command without a terminal. Of the product's variables, only those in ``env`` are set."""
    capsys.readouterr()
    with pytest.MonkeyPatch.context() as patch, Path(os.devnull).open() as nothing:
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
