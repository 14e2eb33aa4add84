"""What a worker needs of the snapshots of runs whose stages it has claimed; it keeps those that it has read."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any

from vm_webapp.db.pool import Row
from vm_webapp.runs.snapshots import DIGESTS, KeptSnapshots, StoredSnapshot
from vm_webapp.workflows.model import Workflow

_KEPT = KeptSnapshots()


def read_kept(stages: Iterable[Row]) -> Mapping[bytes, StoredSnapshot]:
    """Return the snapshots to which the runs of claimed stages refer; those that are new here take one statement.

    Raises:
        DatabaseUnavailable: they could not be read.
    """
    return _KEPT.read({digest for stage in stages for digest in _digests(stage) if digest})


def restored(stage: Row, kept: Mapping[bytes, StoredSnapshot]) -> tuple[Mapping[str, Any], Workflow]:
    """Return ``brand`` and ``project`` of a claimed stage's run, each a mapping or None, and its workflow.

    Raises:
        Exception: whatever the snapshot of another build makes it raise.
    """
    workflow, brand, project = _digests(stage)
    if workflow is None:
        return _of_document(stage["snapshot"])
    content = {"brand": kept[brand].content if brand else None, "project": kept[project].content if project else None}
    return content, kept[workflow].workflow


def _digests(stage: Row) -> list[bytes | None]:
    return [None if stage[name] is None else bytes(stage[name]) for name in DIGESTS]


@lru_cache(maxsize=64)
def _of_document(snapshot: str) -> tuple[Mapping[str, Any], Workflow]:
    """Return the same of a run of the build before, which has all of it in one document."""
    content = json.loads(snapshot)
    return content, Workflow.from_snapshot(content["workflow"])
