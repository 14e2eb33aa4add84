"""The readable copy of the artifacts: for its owner alone, and never written or removed through a link."""

from __future__ import annotations

import logging
import os
import pwd
import stat
import threading
from collections.abc import Sequence
from pathlib import Path
from uuid import UUID, uuid4

import pytest

from tests.support.waiting import eventually
from vm_webapp.execution.mirror import ArtifactCopy, ArtifactMirror
from vm_webapp.execution.mirror_writer import MOST_WAITING, MirrorWriter

RUN = uuid4()


@pytest.fixture(autouse=True)
def _warnings(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "workspace"


@pytest.fixture
def elsewhere(tmp_path: Path) -> Path:
    """A folder outside the workspace, with a file at each name that the copy uses."""
    folder = tmp_path / "elsewhere"
    for path in (folder, folder / str(RUN), folder / "01-plan", folder / str(RUN) / "01-plan"):
        path.mkdir(exist_ok=True)
        (path / "v1.md").write_text("theirs")
    return folder


def write(root: Path, run_id: UUID = RUN, *, version: int = 1) -> bool:
    return ArtifactMirror(root).write([copy(run_id, version=version)])


def copy(run_id: UUID = RUN, *, version: int = 1) -> ArtifactCopy:
    return ArtifactCopy(run_id, position=1, stage_key="plan", version=version, name="plan.md", content="# Ö")


def content(folder: Path) -> dict[str, str]:
    return {str(path.relative_to(folder)): path.read_text() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(params=[0o000, 0o022, 0o077])
def _umask(request: pytest.FixtureRequest) -> object:
    before = os.umask(request.param)
    yield
    os.umask(before)


@pytest.mark.usefixtures("_umask")
def test_only_its_owner_can_read_the_copy(root: Path) -> None:
    assert write(root)
    modes = {path.relative_to(root).parts: stat.S_IMODE(path.stat().st_mode) for path in root.rglob("*")}
    run = ("runs", str(RUN))
    assert modes == {("runs",): 0o700, run: 0o700, (*run, "01-plan"): 0o700, (*run, "01-plan", "v1.md"): 0o600}
    assert (root / "runs" / str(RUN) / "01-plan" / "v1.md").read_text() == "# Ö"


def test_folders_of_an_earlier_release_are_closed(root: Path) -> None:
    stage = root / "runs" / str(RUN) / "01-plan"
    stage.mkdir(parents=True)
    for folder in (stage, stage.parent, root / "runs"):
        folder.chmod(0o755)
    root.chmod(0o755)
    assert write(root)
    assert {stat.S_IMODE(path.stat().st_mode) for path in (stage, stage.parent, root / "runs")} == {0o700}
    assert stat.S_IMODE(root.stat().st_mode) == 0o755, "the root may be anybody's"


@pytest.mark.parametrize("level", [("runs",), ("runs", str(RUN)), ("runs", str(RUN), "01-plan")])
def test_a_link_in_place_of_a_folder_is_not_followed(
    root: Path, elsewhere: Path, level: tuple[str, ...], caplog: pytest.LogCaptureFixture
) -> None:
    before = content(elsewhere)
    link = root.joinpath(*level)
    link.parent.mkdir(parents=True)
    link.symlink_to(elsewhere)
    assert not write(root)
    ArtifactMirror(root).remove([RUN])
    assert content(elsewhere) == before
    assert [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING] == [
        "mirror.unwritable"
    ]


@pytest.mark.parametrize("target", ["v1.md", "missing.md"])
def test_a_link_in_place_of_a_file_is_replaced(root: Path, elsewhere: Path, target: str) -> None:
    before = content(elsewhere)
    assert write(root, version=2)
    stage = root / "runs" / str(RUN) / "01-plan"
    (stage / "v1.md").symlink_to(elsewhere / target)
    assert write(root)
    assert not (stage / "v1.md").is_symlink()
    assert content(elsewhere) == before
    assert not [path for path in stage.iterdir() if path.suffix == ".tmp"]


def test_links_inside_a_run_are_removed_and_their_targets_stay(root: Path, elsewhere: Path) -> None:
    before = content(elsewhere)
    assert write(root)
    run = root / "runs" / str(RUN)
    (run / "02-more").symlink_to(elsewhere)
    (run / "01-plan" / "v2.md").symlink_to(elsewhere / "v1.md")
    ArtifactMirror(root).remove([RUN, uuid4()])
    assert not run.exists()
    assert content(elsewhere) == before


def test_a_root_that_is_itself_a_link_works(root: Path, tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    root.symlink_to(tmp_path / "disk")
    assert write(root)
    ArtifactMirror(root).remove([RUN])
    assert list((tmp_path / "disk" / "runs").iterdir()) == []


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make folders of another user")
def test_a_folder_of_another_user_is_not_used(root: Path, caplog: pytest.LogCaptureFixture) -> None:
    (root / "runs").mkdir(parents=True)
    os.chown(root / "runs", pwd.getpwnam("nobody").pw_uid, -1)
    assert not write(root)
    assert list((root / "runs").iterdir()) == []
    assert vars(caplog.records[-1])["error"] == "a folder of another user is in the way"


def test_a_folder_in_place_of_the_file_is_a_warning_and_leaves_nothing(root: Path) -> None:
    stage = root / "runs" / str(RUN) / "01-plan"
    (stage / "v1.md" / "x").mkdir(parents=True)
    assert not write(root)
    assert [path.name for path in stage.iterdir()] == ["v1.md"]


class SlowMirror(ArtifactMirror):
    """Notes what it is asked to write together, and waits for ``goes_on`` before it writes."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.goes_on = threading.Event()
        self.asked: list[list[int]] = []

    def write(self, copies: Sequence[ArtifactCopy]) -> bool:
        """Wait, and write."""
        self.asked.append([each.version for each in copies])
        assert self.goes_on.wait(30)
        return super().write(copies)


def test_nothing_waits_for_a_slow_disk_and_what_waits_is_written_together(root: Path) -> None:
    mirror = SlowMirror(root)
    writer = MirrorWriter(mirror)
    writer.put(copy(version=1))
    eventually(lambda: mirror.asked == [[1]], "the first is being written")
    for version in (2, 3, 4):
        writer.put(copy(version=version))
    mirror.goes_on.set()
    writer.close()
    assert mirror.asked == [[1], [2, 3, 4]]
    assert len(content(root)) == 4


def test_too_many_copies_are_written_by_those_who_bring_them(root: Path) -> None:
    mirror = SlowMirror(root)
    writer = MirrorWriter(mirror)
    writer.put(copy(version=1))
    eventually(lambda: mirror.asked == [[1]], "the first is being written")
    for version in range(2, MOST_WAITING + 2):
        writer.put(copy(version=version))
    threading.Timer(0.2, mirror.goes_on.set).start()
    writer.put(copy(version=100))
    assert mirror.asked[1] == [100]
    writer.close()
    assert len(content(root)) == MOST_WAITING + 2
