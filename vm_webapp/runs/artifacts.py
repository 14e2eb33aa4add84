"""Artifacts as they are stored: versioned, immutable, identified by the SHA-256 of their UTF-8 bytes."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from peewee import ModelSelect, fn
from uuid_utils.compat import uuid7

from vm_webapp.db.compiled import compiled, param
from vm_webapp.db.models import Artifact
from vm_webapp.db.pool import row

MEDIA_TYPE = "text/markdown"


@dataclass(frozen=True, slots=True)
class NewArtifact:
    """An artifact to be stored as the stage's next version.

    Attributes:
        note: what a reader should know of how it was written, or None.
        attempt_token: lease token of the attempt that wrote it, None when a person did.
        author: the person who wrote or edited it, or None.
    """

    name: str
    content: str
    provider: str
    model: str | None = None
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    truncated: bool = False
    note: str | None = None
    attempt_token: UUID | None = None
    author: str | None = None


@dataclass(frozen=True, slots=True)
class StoredArtifact:
    """A stored version, as far as the timeline shows it. ``size`` is in bytes of UTF-8."""

    version: int
    name: str
    sha256: str
    size: int
    created_at: datetime


def newest_of(stage_id: Any, *columns: Any) -> ModelSelect[Artifact]:
    """Return the query for a stage's newest version, by the unique index on (stage_id, version).

    Args:
        stage_id: the stage's id: a parameter, or a column of the query that this one is a part of.
        columns: what to select.
    """
    return Artifact.select(*columns).where(Artifact.stage == stage_id).order_by(Artifact.version.desc()).limit(1)


_GIVEN = (
    *("id", "run_id", "stage_id", "attempt_token", "name", "media_type", "sha256", "size", "content", "provider"),
    *("model", "prompt_tokens", "completion_tokens", "truncated", "note", "author"),
)
_STORED = (Artifact.version, Artifact.name, Artifact.sha256, Artifact.size, Artifact.created_at)
# The statement that uses the next number computes it: the run's lock keeps two of them from computing the same, and the
# UNIQUE constraint on (stage_id, version) would refuse the second. Where the stage has no version yet, max() without
# GROUP BY still returns one row, so the first version is inserted as well.
_ADD = compiled(
    Artifact.insert_from(
        Artifact.select(fn.coalesce(fn.max(Artifact.version), 0) + 1, *(param(name) for name in _GIVEN)).where(
            Artifact.stage == param("stage_id")
        ),
        # Peewee names a foreign key ``run``, its column and our parameter are ``run_id``.
        [Artifact.version, *(getattr(Artifact, name.removesuffix("_id")) for name in _GIVEN)],
    ).returning(*_STORED)
)
_NEWEST = compiled(newest_of(param("stage_id"), *_STORED))
# The token stays when the stage's own is cleared. A stage has few versions: no index on tokens is needed.
_BY_TOKEN = compiled(
    Artifact.select(Artifact.version).where(
        Artifact.stage == param("stage_id"), Artifact.attempt_token == param("token")
    )
)


def add_version(run_id: UUID, stage_id: UUID, new: NewArtifact) -> StoredArtifact:
    """Store an artifact as the stage's next version, inside the current transaction.

    The caller holds the lock of the run's row, so no two versions get the same number.
    """
    stored = row(_ADD, **values_of(new), author=new.author, run_id=run_id, stage_id=stage_id)
    assert stored is not None
    return StoredArtifact(**stored)


def values_of(new: NewArtifact) -> dict[str, Any]:
    """Return the values of the columns of a new version, but for its run, stage, number and author."""
    # Bytes and not characters: the digest and the size are those of the response body that a client downloads.
    raw = new.content.encode()
    return {
        "id": uuid7(),
        "attempt_token": new.attempt_token,
        "name": new.name,
        "media_type": MEDIA_TYPE,
        "sha256": hashlib.sha256(raw).hexdigest(),
        "size": len(raw),
        "content": new.content,
        "provider": new.provider,
        "model": new.model,
        "prompt_tokens": new.prompt_tokens,
        "completion_tokens": new.completion_tokens,
        "truncated": new.truncated,
        "note": new.note,
    }


def newest_version(stage_id: UUID) -> StoredArtifact | None:
    """Return the stage's newest version, inside the current transaction, or None where there is none yet."""
    found = row(_NEWEST, stage_id=stage_id)
    return StoredArtifact(**found) if found else None


def wrote_version(stage_id: UUID, token: UUID) -> bool:
    """Return, inside the current transaction, whether the stage's attempt with this lease token stored its artifact."""
    return row(_BY_TOKEN, stage_id=stage_id, token=token) is not None
