"""The servers of the benchmarks keep nothing once they have stopped, whoever runs them."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks import explain
from benchmarks.__main__ import servers
from benchmarks.drain import Servers, read
from benchmarks.hot_statements import CREATE
from benchmarks.plans import load_plans


def test_the_data_of_the_servers_are_in_a_folder_that_is_deleted() -> None:
    # Root's PostgreSQL is run by a user of its own, who may not enter a private folder: the data would be elsewhere.
    with servers({"track_commit_timestamp": "on"}) as given:
        data = given.folder / "postgres"
        assert data.is_dir()
        assert not data.is_symlink()
        assert read(given, "SELECT current_setting('track_commit_timestamp'), current_setting('fsync')") == [
            ("on", "on")
        ]
    assert not given.folder.exists()


def test_what_is_explained_is_written_and_its_data_are_deleted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folders: list[Path] = []

    def conditions(given: Servers) -> dict[str, object]:
        folders.append(given.folder)
        assert not (given.folder / "postgres").is_symlink()
        return {"fsync": read(given, "SELECT current_setting('fsync')")[0][0]}

    monkeypatch.setattr(explain, "read_conditions", conditions)
    monkeypatch.setattr(explain, "PAGE", tmp_path / "plans.md")
    monkeypatch.setattr(explain, "PLANS", tmp_path / "plans.json")
    monkeypatch.setattr(explain, "GROWN", 16)
    monkeypatch.setattr(explain, "RENEWALS", 2)
    explain.explain((50, 100))
    plans = load_plans(tmp_path / "plans.json")
    assert plans.sizes == [50, 100]
    assert plans.ms(CREATE) > 0
    assert plans.conditions == {"fsync": "on"}, "what a run costs is measured with a disk"
    assert min(plans.growth.wal_bytes, plans.growth.renewal_wal_bytes, plans.growth.commits) > 0
    assert min(plans.growth.disk_bytes.values()) > 0
    assert plans.growth.events == len(("run.created", "run.started", "run.completed")) + 3 * 3
    assert all(f"## {name}\n" in (tmp_path / "plans.md").read_text() for name in plans.statements)
    assert not any(folder.exists() for folder in folders)
