"""The migrations that this build carries: files, and nothing that imports what applies them."""

from __future__ import annotations

from functools import cache
from pathlib import Path

MIGRATIONS = Path(__file__).resolve().parents[2] / "migrations"


@cache
def bundled_ids() -> tuple[str, ...]:
    """Return the ids of this build's migrations, oldest first."""
    return tuple(path.stem for path in sorted(MIGRATIONS.glob("*.sql")) if ".rollback" not in path.name)
