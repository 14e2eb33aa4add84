"""Documents as they are stored: versioned, immutable, identified by the SHA-256 of their UTF-8 bytes."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from uuid import UUID

from uuid_utils.compat import uuid7

from vm_webapp.db.pool import row

MEDIA_TYPE = "text/markdown"


@dataclass(frozen=True, slots=True)
class NewArtifact:
    """A document to be stored as the next version of a stage's artifact.

    Attributes:
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
    attempt_token: UUID | None = None
    author: str | None = None


@dataclass(frozen=True, slots=True)
class StoredArtifact:
    """What is said of a stored version on the timeline. ``size`` is in bytes of UTF-8."""

    version: int
    name: str
    sha256: str
    size: int


def add_version(run_id: UUID, stage_id: UUID, new: NewArtifact) -> StoredArtifact:
    """Store a document as the stage's next version, inside the current transaction.

    The caller holds the lock of the run's row, so no two versions get one number.
    """
    raw = new.content.encode()
    stored = row(
        """
        INSERT INTO artifacts (id, run_id, stage_id, version, attempt_token, name, media_type, sha256, size, content,
                               provider, model, prompt_tokens, completion_tokens, truncated, author)
        SELECT %(id)s, %(run_id)s, %(stage_id)s, coalesce(max(version), 0) + 1, %(attempt_token)s, %(name)s,
               %(media_type)s, %(sha256)s, %(size)s, %(content)s, %(provider)s, %(model)s, %(prompt_tokens)s,
               %(completion_tokens)s, %(truncated)s, %(author)s
          FROM artifacts WHERE stage_id = %(stage_id)s
        RETURNING version, name, sha256, size
        """,
        id=uuid7(),
        run_id=run_id,
        stage_id=stage_id,
        attempt_token=new.attempt_token,
        name=new.name,
        media_type=MEDIA_TYPE,
        sha256=hashlib.sha256(raw).hexdigest(),
        size=len(raw),
        content=new.content,
        provider=new.provider,
        model=new.model,
        prompt_tokens=new.prompt_tokens,
        completion_tokens=new.completion_tokens,
        truncated=new.truncated,
        author=new.author,
    )
    assert stored is not None
    return StoredArtifact(**stored)


def newest_version(stage_id: UUID) -> StoredArtifact | None:
    """Return the stage's newest version, inside the current transaction, or None where there is none yet."""
    found = row(
        "SELECT version, name, sha256, size FROM artifacts WHERE stage_id = %(id)s ORDER BY version DESC LIMIT 1",
        id=stage_id,
    )
    return StoredArtifact(**found) if found else None


def wrote_version(token: UUID) -> bool:
    """Tell, inside the current transaction, whether the attempt with this lease token stored its document."""
    return row("SELECT 1 AS found FROM artifacts WHERE attempt_token = %(token)s", token=token) is not None
