"""The migrations that a build carries: files with headers, and nothing that imports what applies them."""

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
    """One migration as it stands on disk or in the archive.

    Attributes:
        id: the file's name without its ending; ids sort in the order in which migrations apply.
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
        """Return the newest migration of the oldest build that runs on this schema; unsaid, that is this one's own."""
        return self._headers().get("oldest build") or self.id

    @property
    def irreversible(self) -> str | None:
        """Return why it says that it cannot be rolled back, None when it does not say so."""
        return self._headers().get("irreversible")

    @property
    def no_way_back(self) -> str:
        """Why it cannot be rolled back; empty when it can."""
        if self.irreversible is not None:
            return self.irreversible or "it says it is irreversible"
        return "" if self.has_rollback else "it has no rollback file, or one that is empty"

    @property
    def deferrable(self) -> bool:
        """Whether the build that carries it runs without it, too: an index, or the end of a contraction."""
        return "deferrable" in self._headers()

    @property
    def has_rollback(self) -> bool:
        """Whether the rollback file says anything but comments."""
        return any(line.strip() and not line.strip().startswith("--") for line in self.down.splitlines())

    def write_to(self, folder: Path) -> None:
        """Lay both files into a folder, as yoyo expects them."""
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
    """Read the migrations of a folder; one that is empty or missing gives an empty bundle."""
    ups = [path for path in folder.glob("*.sql") if not path.name.endswith(ROLLBACK)]
    return Bundle(MigrationFiles(up.stem, _text(up), _text(up.with_name(up.stem + ROLLBACK))) for up in ups)


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
