"""Root changes no folder but its own: what PostgreSQL's account cannot reach in the workspace is kept elsewhere."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from tests.local.conftest import ask
from vm_webapp.errors import ConfigurationError
from vm_webapp.local import home, start_local_servers
from vm_webapp.local.postgres import find_programs

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root runs PostgreSQL as another user")


@pytest.fixture
def closed() -> Iterator[Path]:
    """A folder that only root may enter."""
    with TemporaryDirectory(prefix="vm-closed-") as name:
        yield Path(name).resolve()


@pytest.fixture
def place(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The folder that stands for the one under /var/lib."""
    with TemporaryDirectory(prefix="vm-home-") as name:
        Path(name).chmod(0o711)
        monkeypatch.setattr(home, "HOME", Path(name).resolve() / "home")
        yield home.HOME


def modes(*folders: Path) -> dict[Path, int]:
    return {path: path.stat().st_mode for folder in folders for path in (folder, *folder.parents)}


def test_a_workspace_in_a_closed_folder_keeps_its_data_and_leaves_the_folders_alone(closed: Path, place: Path) -> None:
    root = closed / "deep" / "workspace"
    root.mkdir(parents=True, mode=0o700)
    before = modes(root, find_programs())
    with start_local_servers(root, durable=False) as servers:
        ask(servers, "CREATE TABLE kept ()")
    with start_local_servers(root, durable=False) as servers:
        assert ask(servers, "SELECT to_regclass('kept')") == [("kept",)]
        (((data),),) = ask(servers, "SHOW data_directory")
        assert Path(str(data)).is_relative_to(place)
    assert modes(root, find_programs()) == before
    # A workspace that was renamed has its data still.
    moved = closed / "moved"
    root.rename(moved)
    with start_local_servers(moved, durable=False) as servers:
        assert ask(servers, "SELECT to_regclass('kept')") == [("kept",)]
    # A copy would share it.
    subprocess.run(["cp", "-a", str(moved), str(closed / "copy")], check=True)
    with pytest.raises(ConfigurationError, match="the workspace from which this one was copied: remove"):
        start_local_servers(closed / "copy", durable=False)


def test_an_open_workspace_has_its_data_inside(workspace: Path, place: Path) -> None:
    before = modes(workspace)
    with start_local_servers(workspace, durable=False) as servers:
        assert ask(servers, "SHOW data_directory") == [(str(workspace / "servers" / "postgres"),)]
    assert modes(workspace) == before
    assert not place.exists()


def test_programs_that_only_root_can_reach_are_copied_once(
    closed: Path, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = find_programs().parents[1]
    shutil.copytree(package / "pginstall18", closed / package.name / "pginstall18", symlinks=True)
    libraries = package.with_name(f"{package.name}.libs")
    shutil.copytree(libraries, closed / libraries.name, symlinks=True)
    for path in closed.rglob("*"):  # as an installation under umask 077 leaves them
        if not path.is_symlink():
            path.chmod(path.stat().st_mode & 0o700)
    monkeypatch.setattr("vm_webapp.local.postgres.find_programs", lambda: closed / package.name / "pginstall18" / "bin")
    before = modes(closed / package.name / "pginstall18" / "bin")
    for _ in range(2):
        with start_local_servers(closed / "workspace", durable=False) as servers:
            assert ask(servers, "SELECT 1") == [(1,)]
    assert modes(closed / package.name / "pginstall18" / "bin") == before
    assert len([path for path in place.iterdir() if path.name.startswith("programs")]) == 1


def test_data_that_the_account_cannot_reach_any_more_is_refused_with_what_to_do(closed: Path, place: Path) -> None:
    (closed / "servers" / "postgres").mkdir(parents=True)
    with pytest.raises(ConfigurationError) as refused:
        start_local_servers(closed, durable=False)
    assert f"may not enter {closed}, where its data is: allow it with chmod o+x {closed}, or" in str(refused.value)
    assert not closed.stat().st_mode & 0o077


def test_a_planted_folder_or_link_is_refused(closed: Path, place: Path, tmp_path: Path) -> None:
    place.symlink_to(tmp_path)
    with pytest.raises(ConfigurationError, match="is not a folder of root"):
        start_local_servers(closed / "one", durable=False)
    (closed / "two").mkdir()
    (closed / "two" / "servers").symlink_to(tmp_path)
    before = modes(tmp_path)
    with pytest.raises(ConfigurationError, match="is a link and must be a folder"):
        start_local_servers(closed / "two", durable=False)
    (closed / "three" / "servers").mkdir(parents=True)
    os.chown(closed / "three" / "servers", 65534, 65534)
    with pytest.raises(ConfigurationError, match="belongs to another user: run as that user"):
        start_local_servers(closed / "three", durable=False)
    (closed / "four" / "servers").mkdir(parents=True)
    (closed / "four" / "servers" / "postgres").symlink_to(tmp_path)
    with pytest.raises(ConfigurationError, match="is not a data folder of ours: remove the link"):
        start_local_servers(closed / "four", durable=False)
    assert modes(tmp_path) == before
    assert list(tmp_path.iterdir()) == []


def test_a_machine_without_a_place_for_it_says_what_to_do(closed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(home, "HOME", Path("/proc/nowhere"))
    with pytest.raises(ConfigurationError, match="run as an ordinary user, or set VM_DB_URL"):
        start_local_servers(closed, durable=False)
