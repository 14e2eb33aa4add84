"""Workflows, brands and projects as they were when runs were created: each is stored once, by its digest.

A process that creates runs remembers which snapshots are stored, and then sends their digests only. One that claims
stages keeps the snapshots that it has read.
"""

from __future__ import annotations

import json
import threading
from collections import OrderedDict
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from peewee import fn

from vm_webapp.db.compiled import param
from vm_webapp.db.models import Snapshot
from vm_webapp.db.pool import autocommit, execute, rows
from vm_webapp.db.prepared import Prepared, prepared
from vm_webapp.db.unit_of_work import after_commit
from vm_webapp.digest import digest_of
from vm_webapp.runs.statements.snapshots import STORE_SNAPSHOTS
from vm_webapp.workflows.model import Workflow

DIGESTS = ("workflow_digest", "brand_digest", "project_digest")
"""The columns of ``runs`` that refer to snapshots."""
ONLY_SNAPSHOTS = "to_regclass('runs_unmoved') IS NOT NULL"
"""The condition that migration 0023 is applied, as SQL: its last step creates this index."""
MOST_KEPT = 128
MOST_REMEMBERED = 4096

_READ = prepared(
    Snapshot.select(Snapshot.digest, Snapshot.content).where(
        Snapshot.digest == fn.ANY(param("digests").cast("bytea[]"))
    )
)
_STORE = Prepared(STORE_SNAPSHOTS)
_stored: set[bytes] = set()


@dataclass(frozen=True, slots=True)
class NewSnapshot:
    """The content of a workflow, a brand or a project, and its digest."""

    digest: bytes
    content: Mapping[str, Any]

    @classmethod
    def of(cls, content: Mapping[str, Any]) -> NewSnapshot:
        """Return the snapshot of JSON values."""
        return cls(digest_of(content), content)

    @classmethod
    def of_workflow(cls, workflow: Workflow) -> NewSnapshot:
        """Return the snapshot of a workflow, whose digest is computed once."""
        return cls(workflow.digest, workflow.snapshot())


def not_known_as_stored(snapshots: Iterable[NewSnapshot]) -> list[NewSnapshot]:
    """Return those that this process has not seen stored."""
    return [each for each in snapshots if each.digest not in _stored]


def values_of(snapshots: Iterable[NewSnapshot]) -> dict[str, Any]:
    """Return the values of ``statements.STORE_FURTHER_SNAPSHOTS``."""
    # By digest, because a brand and a project may have the same content.
    sent = {each.digest: json.dumps(each.content) for each in snapshots}
    return {"sent": list(sent), "documents": list(sent.values())}


def remember_after_commit(digests: Iterable[bytes]) -> None:
    """Remember that these snapshots are stored, once the current transaction has committed."""
    after_commit(_remember, tuple(digests))


def store(snapshots: Iterable[NewSnapshot]) -> None:
    """Store snapshots and lock them, inside the current transaction; those that are stored already stay."""
    values = values_of(snapshots)
    execute(_STORE, **values, digests=values["sent"])


def _remember(digests: tuple[bytes, ...]) -> None:
    if not _stored.issuperset(digests):
        if len(_stored) > MOST_REMEMBERED:
            _stored.clear()
        _stored.update(digests)


class StoredSnapshot:
    """A snapshot that was read.

    Attributes:
        content: JSON values, which nobody changes.
    """

    def __init__(self, content: Mapping[str, Any]) -> None:
        self.content = content

    @cached_property
    def workflow(self) -> Workflow:
        """The workflow whose snapshot it is."""
        return Workflow.from_snapshot(self.content)


class KeptSnapshots:
    """The snapshots that this process has read last; their digest is that of their content, so they do not age.

    Args:
        most: how many are kept.
    """

    def __init__(self, most: int = MOST_KEPT) -> None:
        self._most = most
        self._kept: OrderedDict[bytes, StoredSnapshot] = OrderedDict()
        self._lock = threading.Lock()

    def read(self, digests: Collection[bytes]) -> dict[bytes, StoredSnapshot]:
        """Return the snapshots with these digests, by one statement for all that are not kept.

        Raises:
            DatabaseUnavailable: they could not be read.
        """
        with self._lock:
            found = {digest: self._kept[digest] for digest in digests if digest in self._kept}
        missing = [digest for digest in digests if digest not in found]
        if missing:
            with autocommit():
                read = rows(_READ, digests=missing)
            found |= {bytes(each["digest"]): StoredSnapshot(each["content"]) for each in read}
        self._keep(found)
        return found

    def _keep(self, found: Mapping[bytes, StoredSnapshot]) -> None:
        with self._lock:
            for digest, snapshot in found.items():
                self._kept[digest] = snapshot
                self._kept.move_to_end(digest)
            while len(self._kept) > self._most:
                self._kept.popitem(last=False)
