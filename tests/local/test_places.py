"""Where and as which user the servers can run, and the error where they cannot."""

from __future__ import annotations

import os
import pwd
import resource
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.local.conftest import USER, OtherProcess, ask, copy_workspace
from vm_webapp.errors import ConfigurationError
from vm_webapp.local import start_local_servers
from vm_webapp.local.postgres import find_programs

# Python itself may be installed where only root may read, so the process becomes the user after its imports.
AS_NOBODY = f"""
import contextlib, os, pwd
import redis, vm_webapp.local
with contextlib.suppress(redis.ConnectionError):
    redis.Redis(unix_socket_path="/nowhere", retry=None).ping()
user = pwd.getpwnam("nobody")
os.setgroups([])
os.setgid(user.pw_gid)
os.setuid(user.pw_uid)
{USER}
"""

ODD = Path("Åpen plan för “$HOME” `ls` 'q\" & 100%") / ("x" * 200) / "日本語"

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")


def run_as_nobody(root: Path) -> subprocess.CompletedProcess[str]:
    """Use the servers of a workspace for a moment as an ordinary user."""
    programs = find_programs()
    if not all(path.stat().st_mode & 0o001 for path in (programs, *programs.parents)):
        pytest.skip(f"an ordinary user cannot reach the programs in {programs}")
    return subprocess.run(
        [sys.executable, "-c", AS_NOBODY, str(root)], input="", capture_output=True, text=True, timeout=60, check=False
    )


@pytest.fixture
def nobodys(place: Path) -> Path:
    """A folder that belongs to an ordinary user, who can reach it."""
    user = pwd.getpwnam("nobody")
    os.chown(place, user.pw_uid, user.pw_gid)
    return place


@as_root
def test_an_ordinary_user_can_run_them(nobodys: Path) -> None:
    done = run_as_nobody(nobodys / ODD)
    assert (done.stderr, done.returncode) == ("", 0)
    owners = {path.stat().st_uid for path in (nobodys / ODD).rglob("*")}
    assert owners == {pwd.getpwnam("nobody").pw_uid}


@as_root
def test_the_error_of_a_user_who_may_not_write_says_what_to_do(nobodys: Path) -> None:
    root = nobodys / "roots"
    root.mkdir(mode=0o755)
    done = run_as_nobody(root)
    assert done.returncode == 1
    assert done.stderr.strip().splitlines()[-1] == (
        f"vm_webapp.errors.ConfigurationError: {root / 'servers'} cannot be written:"
        " set VM_WORKSPACE_ROOT to a folder that can"
    )


def test_a_long_path_with_spaces_quotes_and_letters_of_all_kinds_works(workspace: Path, place: Path) -> None:
    root = copy_workspace(workspace, place / ODD)
    with start_local_servers(root, durable=False) as servers:
        assert ask(servers, "SELECT current_database()") == [("vm_webapp",)]
        assert all(note.startswith("no Redis server") for note in servers.notes)


def test_a_relative_path_works_from_its_folder(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(workspace.parent)
    absolute, relative = workspace, Path(workspace.name)
    with (
        start_local_servers(absolute, durable=False) as first,
        start_local_servers(relative, durable=False) as second,
    ):
        assert second.database_url == first.database_url


@pytest.mark.parametrize("place", ["a file/workspace", "a file", "x" * 300, "/proc/workspace"])
def test_a_place_where_no_folder_can_be_made_is_one_clear_error(tmp_path: Path, place: str) -> None:
    (tmp_path / "a file").touch()
    with pytest.raises(ConfigurationError) as refused:
        start_local_servers(tmp_path / place)
    assert str(tmp_path / place) in str(refused.value)
    assert "\n" not in str(refused.value)


def test_data_of_another_major_version_is_named_and_kept(place: Path) -> None:
    data = place / "servers" / "postgres"
    data.mkdir(parents=True)
    (data / "PG_VERSION").write_text("15\n")
    with pytest.raises(ConfigurationError, match="was made by PostgreSQL 15 and this is 18"):
        start_local_servers(place)
    assert (data / "PG_VERSION").exists()


def test_a_folder_that_is_not_postgresqls_is_never_removed(place: Path) -> None:
    data = place / "servers" / "postgres"
    data.mkdir(parents=True)
    (data / "letters.txt").write_text("mine")
    with pytest.raises(ConfigurationError, match="is not a data folder of PostgreSQL"):
        start_local_servers(place)
    assert (data / "letters.txt").read_text() == "mine"


def test_a_data_folder_that_does_not_start_says_why_in_its_own_words(place: Path) -> None:
    data = place / "servers" / "postgres"
    data.mkdir(parents=True)
    (data / "PG_VERSION").write_text("18\n")
    with pytest.raises(ConfigurationError, match=r"the embedded PostgreSQL did not start \(pg_ctl\): .*pg_control"):
        start_local_servers(place)


def test_a_data_folder_that_cannot_be_made_says_why_in_its_own_words(place: Path) -> None:
    # What a full disk refuses, an allowance for the size of files refuses as well, with another reason.
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4 * 1024 * 1024, hard))
    try:
        with pytest.raises(ConfigurationError, match=r"did not start \(initdb\): .*FATAL: .*: File too large$"):
            start_local_servers(place)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_an_unwritable_home_does_not_matter(other: Callable[..., OtherProcess]) -> None:
    user = other(HOME="/proc/nowhere")
    assert user.pids()
    assert user.leave() == ""


def test_serving_needs_no_home(workspace: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if name not in ("HOME", "VM_DB_URL")}
    process = subprocess.Popen(
        [sys.executable, "-m", "vm_webapp", "serve", "--no-worker", "--port", "0"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment | {"VM_WORKSPACE_ROOT": str(workspace)},
    )
    assert process.stdout is not None
    first = process.stdout.readline()
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=60)
    assert first.startswith("API       http://127.0.0.1:"), errors
    assert process.returncode == 0
