"""The migrations that a build contains, as files with headers.

Does not import yoyo: every process reads them, and only commands that change the schema need yoyo.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from vm_webapp.errors import ConfigurationError

MIGRATIONS = Path(__file__).resolve().parents[2] / "migrations"
ROLLBACK = ".rollback.sql"
NONE_BUNDLED = "this installation has no migrations: its folder is missing or empty; install it again"

_HEADER = re.compile(r"--\s*([a-z][a-z ]*?)\s*:\s*(.*)")


@dataclass(frozen=True, slots=True)
class MigrationFiles:
    """One migration, from disk or from the archive.

    Attributes:
        id: the file's name without its suffix; ids sort in the order in which migrations apply.
        up: the text of ``<id>.sql``, headers included.
        down: the text of ``<id>.rollback.sql``, empty when there is none.
    """

    id: str
    up: str
    down: str

    @property
    def sha256(self) -> str:
        """Return the digest of both files."""
        return hashlib.sha256(f"{self.up}\0{self.down}".encode()).hexdigest()

    @property
    def oldest_build(self) -> str:
        """Return the newest migration of the oldest build that runs on this schema; by default its own id."""
        # The default is the safe one: without a header only builds that contain the migration run on it.
        return self._headers().get("oldest build") or self.id

    @property
    def depends(self) -> tuple[str, ...]:
        """Return the ids in its ``depends`` header."""
        return tuple(self._headers().get("depends", "").split())

    @property
    def irreversible(self) -> str | None:
        """Return the reason in its ``irreversible`` header, None if it has no such header."""
        return self._headers().get("irreversible")

    @property
    def rollback_obstacle(self) -> str:
        """Why it cannot be rolled back; empty if it can."""
        # yoyo takes a missing or empty rollback file for a rollback that has nothing to do, and unmarks the migration.
        if self.irreversible is not None:
            return self.irreversible or "it says it is irreversible"
        return "" if self.has_rollback else "it has no rollback file, or one that is empty"

    @property
    def deferrable(self) -> bool:
        """Whether the build that contains it also runs without it: an index, or the last step of a contraction."""
        return "deferrable" in self._headers()

    @property
    def has_rollback(self) -> bool:
        """Whether the rollback file has anything but comments."""
        return any(line.strip() and not line.strip().startswith("--") for line in self.down.splitlines())

    def write_to(self, folder: Path) -> None:
        """Write both files into a folder, under the names that yoyo expects."""
        (folder / f"{self.id}.sql").write_text(self.up, encoding="utf-8")
        if self.down:
            (folder / f"{self.id}{ROLLBACK}").write_text(self.down, encoding="utf-8")

    def _headers(self) -> dict[str, str]:
        """Read ``-- name: value`` lines above the first statement."""
        found: dict[str, str] = {}
        for line in map(str.strip, self.up.splitlines()):
            if line and not line.startswith("--"):
                break
            if match := _HEADER.fullmatch(line):
                found[match[1]] = match[2]
        return found


class Bundle:
    """The migrations of one build, oldest first.

    Args:
        migrations: in any order.
    """

    def __init__(self, migrations: Iterable[MigrationFiles]) -> None:
        self.migrations = {each.id: each for each in sorted(migrations, key=lambda each: each.id)}

    @property
    def ids(self) -> tuple[str, ...]:
        """The ids, oldest first."""
        return tuple(self.migrations)


def read_bundle(folder: Path) -> Bundle:
    """Read the migrations of a folder; if it is empty or missing, the bundle is empty."""
    ups = [path for path in folder.glob("*.sql") if not path.name.endswith(ROLLBACK)]
    return Bundle(MigrationFiles(up.stem, _text(up), _text(up.with_name(up.stem + ROLLBACK))) for up in ups)


# Cached: readiness needs them every second, and the files of a build do not change while a process lives.
@cache
def own_bundle() -> Bundle:
    """Return the migrations of this build."""
    return read_bundle(MIGRATIONS)


def bundled_ids() -> tuple[str, ...]:
    """Return the ids of this build's migrations, oldest first."""
    return own_bundle().ids


def newest_bundled_id() -> str:
    """Return the id of this build's newest migration.

    Raises:
        ConfigurationError: the installation is damaged.
    """
    if not bundled_ids():
        raise ConfigurationError(NONE_BUNDLED)
    return bundled_ids()[-1]


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8") if path.exists() else ""
