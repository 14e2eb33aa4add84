"""The wheel contains the code with all its data files, and nothing else."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SHIPPED = ("vm_webapp", "api", "actors", "migrations")
DATA = (".sql", ".yaml", ".md", ".html", ".css", ".js", ".json", ".svg", ".txt")

ASK = """
import vm_webapp
from vm_webapp.db import bundle, migrate
from vm_webapp.workflows.loader import load_catalog
print(vm_webapp.__file__)
print(bundle.MIGRATIONS, *bundle.bundled_ids())
print(load_catalog().get("plan_90d").name)
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built by the backend of this environment: no network."""
    folder = tmp_path_factory.mktemp("dist")
    built = subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert built.returncode == 0, built.stderr
    (found,) = folder.glob("*.whl")
    return found


@pytest.fixture(scope="module")
def names(wheel: Path) -> set[str]:
    """The files in it."""
    with zipfile.ZipFile(wheel) as archive:
        return set(archive.namelist())


@pytest.mark.parametrize("package", SHIPPED)
def test_every_source_and_data_file_is_in_the_wheel(names: set[str], package: str) -> None:
    expected = {
        str(path.relative_to(ROOT))
        for path in (ROOT / package).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert any(name.endswith(DATA) or name.endswith(".py") for name in expected)
    assert expected - names == set()


def test_there_is_nothing_else_in_the_wheel(names: set[str]) -> None:
    assert {name.split("/", 1)[0] for name in names if ".dist-info/" not in name} == set(SHIPPED)
    assert not [name for name in names if "test" in name or "__pycache__" in name]


def test_every_migration_comes_with_its_rollback(names: set[str]) -> None:
    migrations = {name for name in names if name.startswith("migrations/") and ".rollback." not in name}
    assert migrations
    assert {name.replace(".sql", ".rollback.sql") for name in migrations} <= names


def test_installed_it_finds_its_migrations_and_its_workflows(wheel: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path)  # what installing a pure wheel does
    done = subprocess.run([sys.executable, "-c", ASK], cwd=tmp_path, capture_output=True, text=True, check=False)
    migrations = sorted(path.stem for path in (ROOT / "migrations").glob("*.sql") if ".rollback" not in path.name)
    assert done.stderr == ""
    assert done.stdout.splitlines() == [
        str(tmp_path / "vm_webapp" / "__init__.py"),
        " ".join([str(tmp_path / "migrations"), *migrations]),
        "plan_90d",
    ]
