"""Writes workflow folders for the tests of what reads them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from vm_webapp.errors import WorkflowFileError
from vm_webapp.workflows.loader import load_workflow

MINIMAL = """\
title: Press release
description: A release and its recipients.
stages:
  - key: release
    title: Release
  - key: recipients
    title: Recipients
"""
PROMPTS: Mapping[str, str] = {"release.md": "Write the release.\n", "recipients.md": "List the recipients.\n"}


def write_workflow(
    root: Path, name: str = "press", *, yaml: str | bytes = MINIMAL, prompts: Mapping[str, str | bytes] = PROMPTS
) -> Path:
    """Write a workflow's folder and return it; what is not given is sound."""
    folder = root / name
    folder.mkdir()
    for file_name, content in {"workflow.yaml": yaml, **PROMPTS, **prompts}.items():
        raw = content.encode() if isinstance(content, str) else content
        (folder / file_name).write_bytes(raw)
    return folder


def refusal_of(folder: Path) -> str:
    """Return why a workflow's folder is refused."""
    with pytest.raises(WorkflowFileError) as refusal:
        load_workflow(folder)
    return str(refusal.value)
